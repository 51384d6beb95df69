import keras
import numpy as np
import pytest

from keras_mixer import layers

pytestmark = pytest.mark.backends


def test_passes_the_first_half_through_at_the_start():
    tokens = np.random.default_rng(0).normal(size=(2, 5, 8)).astype("float32")
    outputs = keras.ops.convert_to_numpy(layers.SpatialGatingUnit()(tokens))
    np.testing.assert_allclose(outputs, tokens[..., :4], rtol=1e-4)


def test_the_gate_is_the_second_half_mixed_across_tokens():
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(2, 5, 8)).astype("float32")
    layer = layers.SpatialGatingUnit()
    layer.build(tokens.shape)
    layer.projection.kernel.assign(rng.normal(size=(5, 5)))
    layer.projection.bias.assign(rng.normal(size=5))
    passed, gate = tokens[..., :4], tokens[..., 4:]
    gate = (gate - gate.mean(-1, keepdims=True)) / np.sqrt(gate.var(-1, keepdims=True) + 1e-5)
    mixed = np.einsum("btc,tu->buc", gate, np.array(layer.projection.kernel))
    expected = passed * (mixed + np.array(layer.projection.bias)[:, None])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(tokens)), expected, rtol=1e-4, atol=1e-5)


def test_channels_must_be_even():
    with pytest.raises(ValueError, match=r"even number of channels.*\(2, 5, 7\)"):
        layers.SpatialGatingUnit()(np.ones((2, 5, 7), "float32"))
