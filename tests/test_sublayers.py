"""What the package reads of Keras's private attributes. Where a test fails, Keras has changed them."""

import keras
import numpy as np
import pytest

from keras_mixer import layers
from keras_mixer.sublayers import all_layers, direct_layers, seed_generators
from keras_mixer.training.optimizers import weight_averages


@pytest.fixture
def model():
    """A model that holds another one, whose block holds layers that hold layers."""
    block = layers.MixerBlock(4, 8, dropout=0.5, name="block")
    tokens = keras.Input((3, 2))
    inner = keras.Model(tokens, block(tokens), name="inner")
    return keras.Sequential([keras.Input((3, 2)), inner, keras.layers.Dropout(0.5, name="drop")], name="outer")


def test_all_layers_are_found_at_any_depth(model):
    names = [layer.name for layer in all_layers(model)]
    assert {"outer", "inner", "block", "token_mixing", "channel_mixing", "Dense_0", "Dense_1", "drop"} <= set(names)
    assert names.count("Dense_0") == 2  # of both MLPs


def test_direct_layers_leave_out_what_is_inside_them(model):
    block = model.get_layer("inner").get_layer("block")
    assert {layer.name for layer in direct_layers(block)} == {
        *("LayerNorm_0", "token_mixing", "StochasticDepth_0", "shortcut"),
        *("LayerNorm_1", "channel_mixing", "StochasticDepth_1"),
    }


def test_seed_generators_are_those_of_dropout(model):
    dropouts = [layer for layer in all_layers(model) if isinstance(layer, keras.layers.Dropout)]
    assert len(dropouts) == 5  # two in each MLP of the block, and the last layer
    assert [id(one) for one in seed_generators(model)] == [id(layer.seed_generator) for layer in dropouts]


def test_weight_averages_are_in_the_order_of_the_weights():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3), keras.layers.Dense(1)])
    optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
    weights = model.trainable_variables
    before = [np.array(weight.value) for weight in weights]
    optimizer.build(weights)
    for _ in range(2):
        optimizer.apply([keras.ops.ones_like(weight) * (index + 1) for index, weight in enumerate(weights)])
    for index, (start, average) in enumerate(zip(before, weight_averages(optimizer), strict=True)):
        # After updates 1 and 2, a weight has fallen by 0.1 and 0.2 gradients; the first average is the weight itself.
        np.testing.assert_allclose(np.array(average.value), start - 0.15 * (index + 1), rtol=1e-5, atol=1e-6)
