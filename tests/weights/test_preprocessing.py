import dataclasses
import pathlib
import zipfile

import family
import keras
import numpy as np
import pytest
from PIL import Image

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


WANTED = weights.InputPreprocessing((4, 5), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@pytest.mark.backends
@pytest.mark.parametrize("shape", [(4, 5, 1), (4, 5, 4), (3, 4, 5), (4, 5), (2, 4, 5, 1)])
def test_another_number_of_channels_is_not_broadcast(shape):
    zeros = np.zeros(shape, "float32")
    for images in (zeros, keras.ops.convert_to_tensor(zeros), keras.KerasTensor(shape)):
        with pytest.raises(ValueError, match=r"3 channels on their last axis.* but got the shape"):
            keras_mixer.preprocess_input(images, WANTED)


def test_a_number_without_a_channel_is_refused_if_each_channel_has_its_mean():
    with pytest.raises(ValueError, match=r"got the shape \(\)"):
        keras_mixer.preprocess_input(5, WANTED)


NOT_IMAGES = {
    "booleans": np.ones((4, 5, 3), bool),
    "complex": np.ones((4, 5, 3), complex),
    "text": "photo.jpg",
    "bytes": b"photo",
    "path": pathlib.Path("photo.jpg"),
    "dict": {"image": np.zeros((4, 5, 3))},
    "none": None,
}


@pytest.mark.parametrize("kind", NOT_IMAGES)
def test_what_is_not_numbers_is_refused(kind):
    with pytest.raises(ValueError, match="must hold integers or floating-point numbers, but got the dtype"):
        keras_mixer.preprocess_input(NOT_IMAGES[kind])
    with pytest.raises(ValueError, match="must have one shape"):
        keras_mixer.preprocess_input([np.zeros((4, 5, 3)), np.zeros((6, 5, 3))])


@pytest.mark.backends
def test_tensors_of_booleans_are_refused():
    with pytest.raises(ValueError, match="but got the dtype bool"):
        keras_mixer.preprocess_input(keras.ops.ones((4, 5, 3), "bool"))


def test_values_that_are_no_pixels_are_refused():
    for wrong in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="not finite"):
            keras_mixer.preprocess_input([[0.0, wrong]])
    with pytest.raises(ValueError, match=r"go from 0 to 65535: divide 16-bit images by 257"):
        keras_mixer.preprocess_input(np.array([0, 65535], "uint16"))
    # Interpolation leads a little beyond the range.
    np.testing.assert_allclose(keras_mixer.preprocess_input([-12.75, 267.75]), [-1.1, 1.1], rtol=1e-6)


@pytest.mark.parametrize("low", [0.0, -1.0])
def test_images_that_are_already_scaled_give_a_warning(low):
    images = np.linspace(low, 1, 60, dtype="float32").reshape(4, 5, 3)
    with pytest.warns(UserWarning, match="almost black: pass images that are not scaled yet"):
        keras_mixer.preprocess_input(images)
    keras_mixer.preprocess_input(np.zeros((4, 5, 3), "float32"))  # black is an image
    keras_mixer.preprocess_input(np.ones((4, 5, 3), "uint8"))


def test_images_of_pillow_become_arrays():
    image = Image.fromarray(np.full((4, 5, 3), 255, "uint8"))
    np.testing.assert_array_equal(keras_mixer.preprocess_input(image), np.ones((4, 5, 3), "float32"))


@pytest.mark.parametrize("preprocessing", ["imagenet", {"mean": 0.5}, 0.5, 0])
def test_only_a_record_is_a_preprocessing(preprocessing):
    with pytest.raises(ValueError, match=r"such as `model\.preprocessing`, or None, but got"):
        keras_mixer.preprocess_input(PIXELS, preprocessing)


@pytest.mark.parametrize(
    "field",
    [
        *({"mean": wrong} for wrong in (np.nan, "0.5", None, True, [[0.5]], (0.5,), (0.1, 0.2, np.inf))),
        *({"std": wrong} for wrong in (np.nan, np.inf, "1", None, 1j)),
        *({"crop_share": wrong} for wrong in ("1", None, True, np.nan)),
        *({"image_size": wrong} for wrong in (None, "ab", (True, 4), 4.0)),
        {"channels": True},
    ],
    ids=str,
)
def test_every_field_of_the_record_is_checked(field):
    with pytest.raises(ValueError, match=f"^`{next(iter(field))}` .*but got"):
        weights.InputPreprocessing(**field)


def test_numbers_of_numpy_are_fields_too():
    record = weights.InputPreprocessing(
        np.int64(4),
        channels=np.int32(3),
        mean=np.float32(0.5),
        std=np.array([0.5, 0.25, 1.0]),
        crop_share=np.float32(1),
    )
    assert weights.InputPreprocessing.from_json(record.to_json()) == record


def test_grey_images_need_no_axis_of_channels():
    one = weights.InputPreprocessing(28, 1, mean=(0.45,), std=(0.22,))
    images = np.full((2, 28, 28), 51, "uint8")
    np.testing.assert_allclose(keras_mixer.preprocess_input(images, one), (0.2 - 0.45) / 0.22, rtol=1e-5)


@pytest.mark.parametrize("kind", [np.asarray, keras.ops.convert_to_tensor])
def test_tensors_and_arrays_without_axes_are_numbers_too(kind):
    record = weights.InputPreprocessing(mean=kind([0.25, 0.5, 0.75]), std=kind(0.5))
    assert (record.mean, record.std) == ((0.25, 0.5, 0.75), 0.5)
    assert {type(value) for value in (*record.mean, record.std)} == {float}


def test_loading_leaves_an_attribute_of_the_user_alone(tmp_path):
    model = family.tiny("mixer")
    model.preprocessing = weights.InputPreprocessing((32, 32), mean=0.0, std=1.0)
    model.save(tmp_path / "model.keras")

    class Own(keras.Model):
        preprocessing = "mine"

    own = Own(model.inputs, model.outputs)
    keras_mixer.weights.load(own, tmp_path / "model.keras")
    assert own.preprocessing == "mine"
    flat = keras.Input((32 * 32 * 3,))
    reshaped = family.tiny("mixer", input_tensor=keras.layers.Reshape((32, 32, 3))(flat))
    keras_mixer.weights.load(reshaped, tmp_path / "model.keras")
    assert reshaped.preprocessing.input_shape == (32, 32, 3)
