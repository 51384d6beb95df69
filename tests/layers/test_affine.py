import keras
import numpy as np
import pytest

from keras_mixer import layers

pytestmark = pytest.mark.backends


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
