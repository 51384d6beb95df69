import math

import keras
import numpy as np
import pytest

from keras_mixer.layers import ChannelMixing, TokenMixing

pytestmark = pytest.mark.backends


def numpy_mlp(rows, weights):
    kernel_0, bias_0, kernel_1, bias_1 = weights
    hidden = rows @ kernel_0 + bias_0
    hidden = 0.5 * hidden * (1 + np.tanh(math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)))
    return hidden @ kernel_1 + bias_1


def randomised(layer, table):
    """The layer, built, with random biases too, and its weights in float64."""
    layer.build(table.shape)
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=w.shape).astype("float32") for w in layer.get_weights()])
    return layer, [w.astype("float64") for w in layer.get_weights()]


@pytest.fixture
def table():
    return np.random.default_rng(0).normal(size=(3, 5, 7)).astype("float32")  # (batch, tokens, channels)


def test_token_mixing_is_the_mlp_of_equation_1_over_columns(table):
    layer, weights = randomised(TokenMixing(11), table)
    expected = np.swapaxes(numpy_mlp(np.swapaxes(table, 1, 2), weights), 1, 2)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(table)), expected, rtol=1e-4, atol=1e-4)


def test_channel_mixing_is_the_mlp_of_equation_1_over_rows(table):
    layer, weights = randomised(ChannelMixing(11), table)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(layer(table)), numpy_mlp(table, weights), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(("layer_class", "own_axis"), [(TokenMixing, 2), (ChannelMixing, 1)])
def test_mixes_along_one_axis_only(layer_class, own_axis, table):
    """A change in one column (tokens) or row (channels) leaves the others bit-identical, and moves its own."""
    layer, _ = randomised(layer_class(11), table)
    before = keras.ops.convert_to_numpy(layer(table))
    for changed in range(table.shape[own_axis]):
        perturbed = np.moveaxis(table.copy(), own_axis, 0)
        perturbed[changed, :, 0] += 1.0  # one token of one column, or one channel of one row
        after = keras.ops.convert_to_numpy(layer(np.moveaxis(perturbed, 0, own_axis)))
        moved = np.moveaxis(before != after, own_axis, 0)
        assert moved[changed].all()
        assert not np.delete(moved, changed, axis=0).any()


@pytest.mark.parametrize("layer_class", [TokenMixing, ChannelMixing])
def test_dropout_acts_in_training_only(layer_class, table):
    layer, _ = randomised(layer_class(11, dropout=0.5), table)
    plain = layer_class(11)
    plain.build(table.shape)
    plain.set_weights(layer.get_weights()[:4])
    expected = keras.ops.convert_to_numpy(plain(table))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(table, training=False)), expected)
    assert not np.array_equal(keras.ops.convert_to_numpy(layer(table, training=True)), expected)


def test_kernels_start_lecun_normal_and_biases_at_zero():
    layer = ChannelMixing(256)
    layer.build((1, 4, 512))
    kernel_0, bias_0, kernel_1, bias_1 = layer.get_weights()
    assert np.std(kernel_0) == pytest.approx(512**-0.5, rel=0.02)
    assert np.std(kernel_1) == pytest.approx(256**-0.5, rel=0.02)
    assert not bias_0.any()
    assert not bias_1.any()


@pytest.mark.parametrize("layer_class", [TokenMixing, ChannelMixing])
@pytest.mark.parametrize("mlp_dim", [0, -3, 2.5, "4", True, None])
def test_refuses_a_width_that_is_no_positive_integer(layer_class, mlp_dim):
    with pytest.raises(ValueError, match=r"`mlp_dim` must be a positive integer"):
        layer_class(mlp_dim)


@pytest.mark.parametrize("rate", [-0.1, 1.0, "0.5"])
def test_refuses_a_dropout_that_is_no_rate(rate):
    with pytest.raises(ValueError, match=r"`dropout` is a probability in \[0, 1\)"):
        TokenMixing(4, dropout=rate)


@pytest.mark.parametrize("shape", [(None, 8), (None, None, 8), (None, 4, None), (None, 2, 2, 8)])
def test_refuses_a_table_without_static_shape(shape):
    with pytest.raises(ValueError, match="static tokens and channels"):
        TokenMixing(4).build(shape)
