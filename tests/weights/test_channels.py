"""Weights for three image channels in models of other images, and the way back."""

import logging

import family
import goldens
import keras
import numpy as np
import pytest

import keras_mixer
from keras_mixer import weights

pytestmark = pytest.mark.backends


@pytest.fixture(params=family.ARCHITECTURES)
def checkpoint(request):
    """An architecture, and the path of a checkpoint of three channels."""
    return request.param, goldens.TINY if request.param == "mixer" else family.checkpoint(request.param)


def stem_of(name, path, channels):
    model = family.tiny(name, input_shape=(32, 32, channels))
    weights.load_with_fresh_head(model, path, resize=True)
    return keras.ops.convert_to_numpy(model.get_layer("stem").kernel)


def as_timm(kernel, channels):
    """The rule of timm's `adapt_input_conv`, written on Keras's axes (height, width, channels in, channels out)."""
    if channels == 1:
        return kernel[:, :, 0:1] + kernel[:, :, 1:2] + kernel[:, :, 2:3]
    repeated = np.concatenate([kernel] * -(-channels // 3), axis=2)[:, :, :channels]
    return repeated * (3 / channels)


@pytest.mark.parametrize("channels", [1, 4, 13])
def test_the_stem_is_adapted_as_timm_does(checkpoint, channels, caplog):
    name, path = checkpoint
    kernel = stem_of(name, path, 3)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        adapted = stem_of(name, path, channels)
    np.testing.assert_allclose(adapted, as_timm(kernel, channels), rtol=1e-5, atol=1e-6)
    how = "summed them" if channels == 1 else "repeated and scaled them"
    assert f"adapted weights for 3 image channels to {channels}: {how}." in caplog.text


def test_grey_images_give_what_their_copies_in_three_channels_gave(checkpoint):
    name, path = checkpoint
    models = [family.tiny(name, input_shape=(32, 32, channels)) for channels in (3, 1)]
    for model in models:
        weights.load_with_fresh_head(model, path, resize=True)
    grey = np.random.default_rng(0).random((2, 32, 32, 1)).astype("float32")
    colour, single = goldens.outputs(models[0], np.repeat(grey, 3, axis=-1)), goldens.outputs(models[1], grey)
    np.testing.assert_allclose(single, colour, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("channels", "mean"), [(1, (0.449,)), (4, (0.485, 0.456, 0.406, 0.485))])
def test_the_mean_is_averaged_or_repeated(channels, mean):
    preprocessing = keras_mixer.siblings.preprocessing_of("res_mlp_24", (224, 224, channels))
    np.testing.assert_allclose(preprocessing.mean, mean, atol=1e-9)
    assert len(preprocessing.std) == preprocessing.channels == channels


@pytest.mark.parametrize("channels", [1, 4, 13])
def test_a_published_set(channels):
    model = keras_mixer.MixerNano(weights="cifar10", input_shape=(32, 32, channels))
    kernel = keras.ops.convert_to_numpy(keras_mixer.MixerNano(weights="cifar10").get_layer("stem").kernel)
    adapted = keras.ops.convert_to_numpy(model.get_layer("stem").kernel)
    np.testing.assert_allclose(adapted, as_timm(kernel, channels), rtol=1e-5, atol=1e-6)
    assert model.preprocessing.input_shape == (32, 32, channels)


@pytest.mark.parametrize("suffix", [".npz", ".keras"])
def test_a_checkpoint_decides_the_channels(tmp_path, suffix):
    model = family.randomised(keras_mixer.MixerNano(input_shape=(32, 32, 4), classes=2))
    path = tmp_path / f"model{suffix}"
    model.save(path) if suffix == ".keras" else weights.save_npz(model, path)
    loaded = keras_mixer.MixerNano(weights=path)
    assert loaded.input_shape == (None, 32, 32, 4)
    assert goldens.same(loaded.get_weights(), model.get_weights())


def test_plain_loading_stays_strict():
    with pytest.raises(ValueError, match=r"stem/kernel.*image channels differs.*`adapt_channels=True`"):
        weights.load(family.tiny("resmlp", input_shape=(32, 32, 1)), family.checkpoint("resmlp"))


@pytest.mark.parametrize("file", ["model.keras", "model.npz", "model.weights.h5"])
def test_a_backbone_in_a_larger_model_is_pointed_at(file, tmp_path):
    backbone = family.tiny("mixer", include_top=False, pooling="avg", name="backbone")
    outer = keras.Sequential([keras.Input((32, 32, 3)), backbone, keras.layers.Dense(3)])
    path = tmp_path / file
    if file == "model.npz":
        weights.save_npz(outer, path)
    else:
        outer.save(path) if file == "model.keras" else outer.save_weights(path)
    with pytest.raises(ValueError, match=r"holds a larger model.*get_layer\('backbone'\)"):
        weights.load(backbone, path)
    if file == "model.keras":
        found = keras.models.load_model(path).get_layer("backbone")
        assert goldens.same(found.get_weights(), backbone.get_weights())
