import keras
import numpy as np
import pytest

import keras_mixer
from keras_mixer.layers import MixerBlock, StochasticDepth

pytestmark = pytest.mark.backends

SAMPLES = 20_000


def test_drops_whole_samples_at_its_rate_and_rescales_the_rest():
    branch = np.random.default_rng(0).uniform(1, 2, size=(SAMPLES, 2, 3)).astype("float32")
    dropped_branch = keras.ops.convert_to_numpy(StochasticDepth(0.3, seed=0)(branch, training=True))
    dropped = (dropped_branch == 0).all(axis=(1, 2))
    # Four standard errors of a binomial share.
    assert dropped.mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.3 * 0.7 / SAMPLES))
    np.testing.assert_allclose(dropped_branch[~dropped], branch[~dropped] / 0.7, rtol=1e-6)


def test_a_seed_decides_what_is_dropped():
    def drawn(seed):
        layer = StochasticDepth(0.5, seed=seed)
        return [keras.ops.convert_to_numpy(layer(np.ones((64, 1), "float32"), training=True)).ravel() for _ in "ab"]

    np.testing.assert_array_equal(drawn(3), drawn(3))
    (first, second), (other, _) = drawn(3), drawn(4)
    assert (first != second).any()
    assert (first != other).any()


def test_keeps_the_expected_value():
    outputs = StochasticDepth(0.4, seed=0)(np.ones((SAMPLES, 1), "float32"), training=True)
    assert float(keras.ops.mean(outputs)) == pytest.approx(1.0, abs=4 * np.sqrt(0.4 / 0.6 / SAMPLES))


@pytest.mark.parametrize("training", [False, None])
def test_inference_is_untouched(training):
    branch = np.random.default_rng(0).normal(size=(4, 2, 3)).astype("float32")
    outputs = StochasticDepth(0.9)(branch, training=training)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(outputs), branch)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, "a"])
def test_refuses_what_is_no_rate(rate):
    with pytest.raises(ValueError, match=r"`rate` is a probability in \[0, 1\)"):
        StochasticDepth(rate)


def test_rates_rise_linearly_over_the_mlps_of_a_model():
    """The measured share of dropped branches follows 0 -> s over the 2N MLPs, in the order they are applied."""
    last, num_blocks = 0.6, 3
    model = keras_mixer.Mixer(
        num_blocks=num_blocks,
        patch_size=2,
        hidden_dim=4,
        tokens_mlp_dim=3,
        channels_mlp_dim=5,
        input_shape=(4, 4, 3),
        stochastic_depth=last,
    )
    table = np.random.default_rng(0).normal(size=(4000, 4, 4)).astype("float32")
    measured = []
    for index in range(num_blocks):
        block = model.get_layer(f"MixerBlock_{index}")
        measured += [dropped_share(block, table, branch) for branch in ("token_mixing", "channel_mixing")]
    expected = np.linspace(0, last, 2 * num_blocks)
    np.testing.assert_allclose(measured, expected, atol=4 * np.sqrt(0.25 / len(table)))
    assert measured[0] == 0.0


def dropped_share(block: MixerBlock, table, branch: str) -> float:
    """Share of samples that a block in training passes on unchanged when only `branch` adds anything."""
    other = {"token_mixing": "channel_mixing", "channel_mixing": "token_mixing"}[branch]
    saved = block.get_weights()
    for variable in getattr(block, other).trainable_variables:
        variable.assign(np.zeros(variable.shape))
    outputs = keras.ops.convert_to_numpy(block(table, training=True))
    block.set_weights(saved)
    return float((outputs == table).all(axis=(1, 2)).mean())
