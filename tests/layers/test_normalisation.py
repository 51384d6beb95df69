"""LayerNorm and the affine map of ResMLP."""

import keras
import numpy as np
import pytest

from keras_mixer import layers
from keras_mixer.layers import LayerNorm

pytestmark = pytest.mark.backends


@pytest.fixture
def table():
    return np.random.default_rng(0).normal(3, 2, size=(2, 5, 16)).astype("float32")


def randomised(layer, table):
    layer.build(table.shape)
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=16).astype("float32") for _ in layer.weights])
    return layer


def test_is_the_formula(table):
    layer = randomised(LayerNorm(epsilon=0.1), table)
    gamma, beta = (weight.astype("float64") for weight in layer.get_weights())
    values = table.astype("float64")
    deviation = np.sqrt(values.var(axis=-1, keepdims=True) + 0.1)
    expected = (values - values.mean(axis=-1, keepdims=True)) / deviation * gamma + beta
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(table)), expected, rtol=1e-5, atol=1e-5)


def test_is_keras_own_layer_with_the_published_epsilon(table):
    layer = randomised(LayerNorm(), table)
    keras_layer = randomised(keras.layers.LayerNormalization(epsilon=1e-6), table)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(layer(table)), keras.ops.convert_to_numpy(keras_layer(table)), atol=1e-5
    )


def test_half_precision_normalises_in_float32(table):
    """Values around 300 leave bfloat16 two digits for the deviation; normalised in float32 first, they keep it."""
    far = keras.ops.convert_to_numpy(keras.ops.cast(keras.ops.cast(300 + 20 * table, "bfloat16"), "float32"))
    expected = keras.ops.convert_to_numpy(LayerNorm()(far))
    outputs = LayerNorm(dtype="mixed_bfloat16")(keras.ops.cast(far, "bfloat16"))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(keras.ops.cast(outputs, "float32")), expected, atol=0.01)


def test_without_weights_it_only_normalises(table):
    layer = LayerNorm(center=False, scale=False)
    outputs = keras.ops.convert_to_numpy(layer(table))
    assert not layer.weights
    np.testing.assert_allclose(outputs.mean(axis=-1), 0, atol=1e-5)
    np.testing.assert_allclose(outputs.std(axis=-1), 1, atol=1e-3)


def test_starts_as_the_identity():
    tokens = np.random.default_rng(0).normal(size=(2, 5, 8)).astype("float32")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layers.Affine()(tokens)), tokens)


def test_scales_and_shifts_each_channel_with_no_statistics():
    rng = np.random.default_rng(0)
    tokens, scale, bias = rng.normal(size=(2, 5, 8)), rng.normal(size=8), rng.normal(size=8)
    layer = layers.Affine()
    layer.build(tokens.shape)
    layer.set_weights([scale, bias])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(tokens)), tokens * scale + bias, rtol=1e-5, atol=1e-6)


def test_layer_scale_has_no_shift():
    layer = layers.Affine(0.1, use_bias=False)
    assert np.allclose(keras.ops.convert_to_numpy(layer(np.ones((1, 2, 3), "float32"))), 0.1)
    assert len(layer.weights) == 1


def test_an_affine_map_does_not_repeat_a_single_channel():
    layer = layers.Affine()
    layer(np.ones((2, 4, 8)))
    with pytest.raises(ValueError, match="axis -1 of input shape to have value 8"):
        layer(np.ones((2, 4, 1)))
