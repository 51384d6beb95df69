"""The variants of appendix A against the base layer, and against NumPy."""

import math

import keras
import numpy as np
import pytest

from keras_mixer.layers import GroupedTokenMixing, MixerBlock, TokenMixing, TokenShortcut, UntiedTokenMixing

pytestmark = pytest.mark.backends

TOKENS, CHANNELS, HIDDEN = 5, 12, 7


@pytest.fixture
def table():
    return np.random.default_rng(0).normal(size=(3, TOKENS, CHANNELS)).astype("float32")


def randomised(layer, shape=(None, TOKENS, CHANNELS)):
    layer.build(shape)
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=w.shape).astype("float32") for w in layer.get_weights()])
    return layer


def values(layer, table):
    return keras.ops.convert_to_numpy(layer(table))


def numpy_gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def numpy_mlp(vectors, kernel_0, bias_0, kernel_1, bias_1):
    return numpy_gelu(vectors @ kernel_0 + bias_0) @ kernel_1 + bias_1


@pytest.mark.parametrize("tokens", [None, 2])
def test_untied_with_equal_weights_is_the_tied_form(table, tokens):
    tied = randomised(TokenMixing(HIDDEN, tokens=tokens))
    untied = UntiedTokenMixing(HIDDEN, tokens=tokens)
    untied.build(table.shape)
    untied.set_weights([np.stack([w] * CHANNELS) for w in tied.get_weights()])
    np.testing.assert_allclose(values(untied, table), values(tied, table), rtol=1e-4, atol=1e-4)
    assert untied.count_params() == CHANNELS * tied.count_params()


def test_untied_gives_every_channel_its_own_mlp(table):
    layer = randomised(UntiedTokenMixing(HIDDEN))
    weights = [w.astype("float64") for w in layer.get_weights()]
    expected = np.stack([numpy_mlp(table[:, :, c], *(w[c] for w in weights)) for c in range(CHANNELS)], axis=-1)
    np.testing.assert_allclose(values(layer, table), expected, rtol=1e-4, atol=1e-4)


def test_one_concatenated_group_is_the_base(table):
    base = randomised(TokenMixing(HIDDEN))
    grouped = GroupedTokenMixing(HIDDEN, channel_groups=1)
    grouped.build(table.shape)
    grouped.set_weights([w.reshape(v.shape) for w, v in zip(base.get_weights(), grouped.weights, strict=True)])
    np.testing.assert_allclose(values(grouped, table), values(base, table), rtol=1e-4, atol=1e-4)
    assert grouped.count_params() == base.count_params()


def test_one_projected_group_is_the_base_behind_its_linear_map(table):
    base = randomised(TokenMixing(HIDDEN))
    grouped = GroupedTokenMixing(HIDDEN, channel_groups=1, grouping="project")
    grouped.build(table.shape)
    weights = dict(zip([v.path.split("/", 1)[-1] for v in grouped.weights], grouped.weights, strict=True))
    for name, values_ in zip(
        ["Dense_0/kernel", "Dense_0/bias", "Dense_1/kernel", "Dense_1/bias"], base.get_weights(), strict=True
    ):
        weights[name].assign(values_.reshape(weights[name].shape))
    linear = np.random.default_rng(2).normal(size=(CHANNELS, CHANNELS)).astype("float32")
    weights["views/kernel"].assign(linear[:, None, :])
    np.testing.assert_allclose(values(grouped, table), values(base, table @ linear), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("grouping", ["concat", "project"])
@pytest.mark.parametrize("groups", [2, 3, 12])
def test_groups_by_loops(table, groups, grouping):
    """The joined column of feature f holds, group by group, all tokens; the result goes back to the same places."""
    layer = randomised(GroupedTokenMixing(HIDDEN, groups, grouping))
    named = {v.path.split("/", 1)[-1]: keras.ops.convert_to_numpy(v).astype("float64") for v in layer.weights}
    columns = CHANNELS // groups
    kernel_0 = named["Dense_0/kernel"].reshape(groups * TOKENS, HIDDEN)
    kernel_1 = named["Dense_1/kernel"].reshape(HIDDEN, groups * TOKENS)
    expected = np.empty(table.shape)
    for image in range(len(table)):
        for feature in range(columns):
            if grouping == "concat":
                neighbours = [table[image, :, feature * groups + group] for group in range(groups)]
            else:
                neighbours = [table[image] @ named["views/kernel"][:, group, feature] for group in range(groups)]
            joined = np.concatenate(neighbours)
            mixed = numpy_mlp(joined, kernel_0, named["Dense_0/bias"], kernel_1, named["Dense_1/bias"].ravel())
            for group in range(groups):
                expected[image, :, feature * groups + group] = mixed[group * TOKENS : (group + 1) * TOKENS]
    np.testing.assert_allclose(values(layer, table), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("grouping", ["concat", "project"])
def test_group_parameters_by_formula(grouping):
    groups, joined = 3, 3 * TOKENS
    layer = GroupedTokenMixing(HIDDEN, groups, grouping)
    layer.build((None, TOKENS, CHANNELS))
    mlp = joined * HIDDEN + HIDDEN + HIDDEN * joined + joined
    views = groups * CHANNELS * (CHANNELS // groups) if grouping == "project" else 0
    assert layer.count_params() == mlp + views


def test_a_smaller_table_keeps_a_linear_residual_path(table):
    """With the last biases and kernels of both MLPs at zero, what is left is the shortcut."""
    block = randomised(MixerBlock(HIDDEN, 8, tokens=2))
    for variable in block.weights:
        if "Dense_1" in variable.path:
            variable.assign(np.zeros(variable.shape))
    (kernel,) = (keras.ops.convert_to_numpy(v) for v in block.weights if v.path.endswith("shortcut/kernel"))
    assert kernel.shape == (TOKENS, 2)
    np.testing.assert_allclose(values(block, table), np.einsum("bsc,st->btc", table, kernel), rtol=1e-4, atol=1e-4)


def test_as_many_tokens_as_before_need_no_shortcut():
    block = MixerBlock(HIDDEN, 8, tokens=TOKENS)
    block.build((None, TOKENS, CHANNELS))
    base = MixerBlock(HIDDEN, 8)
    base.build((None, TOKENS, CHANNELS))
    assert [w.shape for w in block.weights] == [w.shape for w in base.weights]


@pytest.mark.parametrize(
    "layer", [UntiedTokenMixing(256), GroupedTokenMixing(256, 4, "project"), TokenShortcut(32)], ids=lambda x: x.name
)
def test_kernels_keep_the_scale_of_their_sums(layer):
    """Inputs of unit variance leave each linear map with unit variance, as LeCun's initialisation promises."""
    layer.build((None, 64, 128))
    for variable in layer.weights:
        kernel, path = keras.ops.convert_to_numpy(variable), variable.path
        if not path.endswith("kernel"):
            assert not kernel.any()
            continue
        summed = {"Dense_0": 64 if isinstance(layer, UntiedTokenMixing) else 4 * 64, "Dense_1": 256, "views": 128}
        fan_in = next((count for name, count in summed.items() if name in path), 64)
        assert np.std(kernel) == pytest.approx(fan_in**-0.5, rel=0.05), path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(channel_groups=0), "`channel_groups` must be a positive integer, but got 0"),
        (dict(channel_groups=2, grouping="sum"), "`grouping` must be one of concat, project, but got 'sum'"),
        (dict(channel_groups=2, untied=True), "`untied` and `channel_groups` cannot be used together"),
        (dict(untied="no"), "`untied` must be True or False, but got 'no'"),
        (dict(tokens=0), "`tokens` must be a positive integer, but got 0"),
        (dict(stochastic_depth=0.1), "`stochastic_depth` of a block must be a pair of rates .* but got 0.1"),
        (dict(stochastic_depth=(0.1,)), r"must be a pair of rates .* but got \(0.1,\)"),
        (dict(stochastic_depth="01"), "must be a pair of rates .* but got '01'"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        MixerBlock(4, 8, **arguments)


def test_groups_must_divide_the_channels():
    with pytest.raises(ValueError, match="5 does not divide 12"):
        MixerBlock(4, 8, channel_groups=5).build((None, TOKENS, CHANNELS))
