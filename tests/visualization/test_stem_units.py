import keras
import numpy as np
import pytest

import keras_mixer
from keras_mixer import visualization

pytestmark = pytest.mark.backends


def model_with_stem(kernel):
    height, width, channels, units = kernel.shape
    model = keras_mixer.Mixer(
        num_blocks=1, patch_size=(height, width), hidden_dim=units, tokens_mlp_dim=3, channels_mlp_dim=4,
        input_shape=(2 * height, width, channels), include_top=False,
    )  # fmt: skip
    model.get_layer("stem").kernel.assign(kernel)
    return model


def test_colours_are_the_kernel_around_grey():
    kernel = np.zeros((2, 3, 3, 2), "float32")
    kernel[0, 2, 1, 0] = -4.0  # first unit: less green at the top right makes it magenta
    kernel[1, 0, 0, 0] = 2.0
    kernel[:, :, 2, 1] = 0.1  # second unit: blue everywhere
    colours = visualization.stem_units(model_with_stem(kernel), sort=False)
    assert colours.shape == (2, 2, 3, 3)
    np.testing.assert_allclose(colours[0, 0, 2], [0.5, 0.0, 0.5])
    np.testing.assert_allclose(colours[0, 1, 0], [0.75, 0.5, 0.5])
    np.testing.assert_allclose(colours[1], np.broadcast_to([0.5, 0.5, 1.0], (2, 3, 3)))


def test_grey_images_give_grey_units():
    kernel = np.random.default_rng(0).normal(size=(2, 2, 1, 5)).astype("float32")
    colours = visualization.stem_units(model_with_stem(kernel), sort=False)
    expected = 0.5 + 0.5 * kernel[:, :, 0, 3] / np.abs(kernel[:, :, 0, 3]).max()
    for channel in range(3):
        np.testing.assert_allclose(colours[3, :, :, channel], expected, rtol=1e-6)


def test_low_frequencies_come_first():
    columns = np.arange(8)
    kernel = np.stack([np.tile(np.cos(2 * np.pi * cycles * columns / 8), (4, 1)) for cycles in (3, 0, 2, 1)], axis=-1)
    model = model_with_stem(np.repeat(kernel[:, :, None, :], 3, axis=2).astype("float32"))
    by_index, by_frequency = visualization.stem_units(model, sort=False), visualization.stem_units(model)
    np.testing.assert_array_equal(by_frequency, by_index[[1, 3, 2, 0]])


def test_a_model_without_patches():
    images = keras.Input((8, 8, 3))
    with pytest.raises(ValueError, match="has no PatchEmbedding"):
        visualization.stem_units(keras.Model(images, keras.layers.Flatten()(images)))
