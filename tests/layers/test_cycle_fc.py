import keras
import numpy as np
import pytest

from keras_mixer import layers

pytestmark = pytest.mark.backends


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
