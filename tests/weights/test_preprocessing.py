import dataclasses
import zipfile

import keras
import numpy as np
import pytest

import keras_mixer
from keras_mixer import models, weights

PIXELS = np.array([[0, 51, 127.5, 255]])


@pytest.mark.backends
@pytest.mark.parametrize("dtype", ["uint8", "float32", "int32", "float16"])
def test_pixels_become_minus_one_to_one(dtype):
    pixels = PIXELS.astype(dtype)
    expected = (pixels.astype("float64") / 127.5 - 1).astype("float32")
    result = keras_mixer.preprocess_input(pixels)
    assert isinstance(result, np.ndarray)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-6)
    assert isinstance(keras_mixer.preprocess_input(pixels[0, 0]), np.floating)
    tensor = keras_mixer.preprocess_input(keras.ops.convert_to_tensor(pixels))
    assert keras.ops.is_tensor(tensor)
    assert keras.backend.standardize_dtype(tensor.dtype) == "float32"
    np.testing.assert_allclose(keras.ops.convert_to_numpy(tensor), expected, atol=1e-6)


def test_miil_sets_want_zero_to_one():
    (entry,) = [entry for entry in weights.available() if entry.name == "imagenet1k_miil"]
    np.testing.assert_allclose(keras_mixer.preprocess_input(PIXELS, entry.preprocessing), [[0, 0.2, 0.5, 1]], atol=1e-6)


@pytest.mark.backends
def test_a_mean_and_deviation_for_each_channel():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3))
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    wanted = weights.InputPreprocessing(mean=mean, std=std)
    expected = (pixels / 255 - mean) / std
    result = keras_mixer.preprocess_input(pixels, wanted)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
    tensor = keras_mixer.preprocess_input(keras.ops.convert_to_tensor(pixels), wanted)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(tensor), expected, rtol=1e-5, atol=1e-6)


def test_the_images_given_stay_as_they_were():
    images = PIXELS.astype("float32")
    keras_mixer.preprocess_input(images)
    np.testing.assert_array_equal(images, PIXELS)


def test_it_is_a_part_of_a_functional_model():
    images = keras.Input((4,))
    model = keras.Model(images, keras_mixer.preprocess_input(images))
    np.testing.assert_allclose(model.predict(PIXELS, verbose=0), PIXELS / 127.5 - 1, atol=1e-6)


@pytest.mark.backends
def test_loaded_weights_bring_their_preprocessing(tmp_path):
    model = models.build("mixer_nano", classes=10)
    assert model.preprocessing is None
    weights.load(model, "cifar10")
    assert model.preprocessing == weights.find("mixer_nano", "cifar10").preprocessing
    own = weights.InputPreprocessing((32, 32), resize="squash", mean=0.0, std=1.0)
    model.preprocessing = own
    model.save(tmp_path / "model.keras")
    weights.save_npz(model, tmp_path / "model.npz")
    # A .keras file records it; a .npz file does not, and the model then keeps what it had.
    assert keras_mixer.MixerNano(weights=tmp_path / "model.keras").preprocessing == own
    wide = keras_mixer.MixerNano(weights=tmp_path / "model.keras", input_shape=(32, 64, 1))
    assert wide.preprocessing == dataclasses.replace(own, image_size=(32, 64), channels=1)
    for file, expected in (("model.npz", None), ("model.keras", own)):
        twin = models.build("mixer_nano", classes=10)
        weights.load(twin, tmp_path / file)
        assert twin.preprocessing == expected


@pytest.mark.parametrize("config", [b"{", b"[1]", b'{"preprocessing": {"mean": "dark"}}', None])
def test_weights_load_from_a_keras_file_whose_configuration_cannot_be_read(config, tmp_path):
    model = models.build("mixer_nano", classes=10)
    model.save(tmp_path / "model.keras")
    with (
        zipfile.ZipFile(tmp_path / "model.keras") as whole,
        zipfile.ZipFile(tmp_path / "other.keras", "w") as other,
    ):
        for name in whole.namelist():
            if name != "config.json":
                other.writestr(name, whole.read(name))
            elif config is not None:
                other.writestr(name, config)
    weights.load(model, tmp_path / "other.keras")
    assert model.preprocessing is None
