import keras
import numpy as np
import pytest

from keras_mixer.layers import PatchEmbedding

pytestmark = pytest.mark.backends


def test_is_the_convolution_with_kernel_and_stride_of_the_patch():
    images = np.random.default_rng(0).normal(size=(2, 12, 8, 3)).astype("float32")
    layer = PatchEmbedding(5, patch_size=(3, 4))
    tokens = keras.ops.convert_to_numpy(layer(images))
    layer.bias.assign(np.arange(5))
    tokens = keras.ops.convert_to_numpy(layer(images))
    convolved = keras.ops.conv(images, layer.kernel, strides=(3, 4), padding="valid") + layer.bias
    np.testing.assert_allclose(tokens, keras.ops.convert_to_numpy(convolved).reshape(2, 8, 5), rtol=1e-5, atol=1e-5)


def test_tokens_come_in_raster_order():
    """Each patch holds its own number, in reading order; the projection sums a patch to that number."""
    rows, columns, patch = 3, 4, 2
    numbers = np.arange(rows * columns, dtype="float32").reshape(1, rows, columns, 1)
    layer = PatchEmbedding(1, patch)
    images = numbers.repeat(patch, axis=1).repeat(patch, axis=2)
    layer.build(images.shape)
    layer.kernel.assign(np.full((patch, patch, 1, 1), 1 / patch**2))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(images)).ravel(), np.arange(12), atol=1e-6)
    assert layer.grid == (rows, columns)


@pytest.mark.parametrize(("size", "fits"), [((30, 32), "32 x 32"), ((3, 17), "8 x 16")])
def test_says_which_size_would_fit(size, fits):
    with pytest.raises(ValueError, match=rf"{size[0]} x {size[1]} pixels .* patches of 8 x 8.*works is {fits}\."):
        PatchEmbedding(4, 8).build((None, *size, 3))


@pytest.mark.parametrize("shape", [(None, None, 32, 3), (None, 32, 32, None), (None, 32, 32)])
def test_needs_a_static_size(shape):
    with pytest.raises(ValueError, match=r"one static size.*input_shape"):
        PatchEmbedding(4, 8).build(shape)


@pytest.mark.parametrize("patch_size", [0, (4,), (4, 4, 4), (4, -1), 2.0])
def test_refuses_what_is_no_patch_size(patch_size):
    with pytest.raises(ValueError, match="`patch_size` must be"):
        PatchEmbedding(4, patch_size)


def test_an_array_is_a_pair_too():
    assert PatchEmbedding(4, np.array([3, 4])).get_config()["patch_size"] == (3, 4)


def test_channels_in_the_first_place_are_told():
    layer = PatchEmbedding(hidden_dim=4, patch_size=8)
    with pytest.raises(ValueError, match="If the channels are first here, put them last"):
        layer.build((None, 3, 16, 16))
    with pytest.raises(ValueError, match=r"works is 16 x 16\.$"):
        layer.build((None, 17, 16, 3))
