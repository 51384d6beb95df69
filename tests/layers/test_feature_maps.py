"""The spatial mixing of Vision Permutator and CycleMLP."""

import keras
import numpy as np
import pytest

from keras_mixer import layers

pytestmark = pytest.mark.backends


def identity_projection(layer, channels):
    """Leaves the weighted sum as it is, and weights that do not depend on the image."""
    layer.projection.kernel.assign(np.eye(channels))
    layer.reweight.dense_1.kernel.assign(np.zeros(layer.reweight.dense_1.kernel.shape))


def favour(layer, branch, channels):
    """Gives one of the three branches all the weight."""
    bias = np.zeros((channels, 3))
    bias[:, branch] = 100.0
    layer.reweight.dense_1.bias.assign(bias.reshape(-1))


@pytest.mark.parametrize("branch", [0, 1, 2])
def test_each_branch_is_the_papers_permutation(branch):
    """Height, width and channel mixing by index: a segment of channels and a whole column, row or pixel at once."""
    rng = np.random.default_rng(0)
    rows, columns, segments, per_segment = 3, 4, 2, 5
    channels = segments * per_segment
    features = rng.normal(size=(2, rows, columns, channels)).astype("float32")
    layer = layers.WeightedPermuteMLP(segments)
    layer.build(features.shape)
    for dense in (layer.height, layer.width, layer.channels):
        dense.kernel.assign(rng.normal(size=dense.kernel.shape))
    identity_projection(layer, channels)
    favour(layer, branch, channels)

    split = features.reshape(2, rows, columns, segments, per_segment)
    if branch == 0:
        kernel = np.array(layer.height.kernel).reshape(rows, per_segment, rows, per_segment)
        expected = np.einsum("brcgs,rsRS->bRcgS", split, kernel)
    elif branch == 1:
        kernel = np.array(layer.width.kernel).reshape(columns, per_segment, columns, per_segment)
        expected = np.einsum("brcgs,csCS->brCgS", split, kernel)
    else:
        expected = features @ np.array(layer.channels.kernel)
    outputs = keras.ops.convert_to_numpy(layer(features))
    np.testing.assert_allclose(outputs, expected.reshape(features.shape), rtol=1e-3, atol=1e-4)


def test_branches_weigh_the_same_where_nothing_is_learned():
    features = np.random.default_rng(0).normal(size=(1, 3, 3, 6)).astype("float32")
    layer = layers.CycleMixing()
    layer.build(features.shape)
    identity_projection(layer, 6)
    parts = (layer.cycle_width(features), layer.cycle_height(features), layer.channels(features))
    expected = sum(keras.ops.convert_to_numpy(part) for part in parts) / 3
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(features)), expected, rtol=1e-4, atol=1e-6)


def test_segments_must_divide_the_channels():
    with pytest.raises(ValueError, match="`segment_dim` must divide the 8 channels, but got 3"):
        layers.WeightedPermuteMLP(3)(np.ones((1, 4, 4, 8), "float32"))


def test_needs_a_static_map():
    with pytest.raises(ValueError, match=r"static size.*\(None, None, 4, 8\)"):
        layers.WeightedPermuteMLP(4)(keras.Input((None, 4, 8)))


def by_pixel(images, kernel, bias, axis, reach):
    """The paper's definition, one output pixel and one channel at a time."""
    height, width, channels = images.shape
    outputs = np.tile(bias, (height, width, 1)).astype("float64")
    for row, column, channel in np.ndindex(height, width, channels):
        offset = (channel + reach // 2) % reach - reach // 2
        r, c = (row + offset, column) if axis == 1 else (row, column + offset)
        if 0 <= r < height and 0 <= c < width:
            outputs[row, column] += images[r, c, channel] * kernel[channel]
    return outputs


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("reach", [1, 3, 5])
def test_every_channel_is_read_at_its_offset(axis, reach):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 4, 6, 7)).astype("float32")
    layer = layers.CycleFC(axis, reach)
    layer.build(images.shape)
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.weights])
    outputs = keras.ops.convert_to_numpy(layer(images))
    kernel, bias = layer.get_weights()
    expected = np.stack([by_pixel(image, kernel, bias, axis, reach) for image in images])
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
    for shift in (layer._selected, layer._interleaved):  # those of other backends
        np.testing.assert_array_equal(shift(images), layer._convolved(images))


def test_maps_smaller_than_the_reach():
    layer = layers.CycleFC(axis=1, reach=5)
    assert layer(np.ones((1, 1, 1, 8), "float32")).shape == (1, 1, 1, 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(axis=3), r"`axis` must be 1 \(height\) or 2 \(width\), but got 3"),
        (dict(axis=1, reach=2), r"`reach` must be odd.*got 2"),
        (dict(axis=1, reach=0), r"`reach` must be a positive integer"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        layers.CycleFC(**arguments)


def test_tokens_are_no_map():
    with pytest.raises(ValueError, match=r"feature map.*\(2, 4, 8\)"):
        layers.CycleFC(axis=1)(np.ones((2, 4, 8), "float32"))
