"""The Mixer layer and its two MLPs (section 2 of the paper), and appendix A's variants of token mixing."""

from typing import Any

import keras
from keras import ops

from keras_mixer.layers.base import CompositeLayer
from keras_mixer.layers.channel_mlp import MLP, ActivatedDense
from keras_mixer.layers.elementwise import elementwise
from keras_mixer.layers.normalisation import LayerNorm
from keras_mixer.layers.regularisation import StochasticDepth
from keras_mixer.layers.token_linear import TokenShortcut
from keras_mixer.shapes import (
    HIDDEN,
    OTHER,
    TOKENS_IN,
    TOKENS_OUT,
    TokenAxes,
    boolean,
    positive_integer,
    rate_below_one,
)

GROUPINGS = ("concat", "project")


@keras.saving.register_keras_serializable(package="keras_mixer")
def gelu_tanh(x):
    """Returns `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`, the form that Mixer was trained with."""
    return elementwise(ops.gelu, x, approximate=True)


class MixingMLP(MLP):
    """An MLP along one axis of a table of tokens by channels."""

    def _build_rows_mlp(self, width: int, width_out: int) -> None:
        """Builds the MLP for 2-D tables whose last axis is mixed. Every backend multiplies them at full speed."""
        # LeCun normal kernels and zero biases, as in the reference implementation.
        dense = {"kernel_initializer": "lecun_normal"}
        self._build_mlp(
            self._sublayer(ActivatedDense, self.mlp_dim, activation=gelu_tanh, name="Dense_0", **dense),
            self._sublayer(keras.layers.Dense, width_out, name="Dense_1", **dense),
            (None, width),
            (None, self.mlp_dim),
        )

    def _einsum_dense(self, name: str, equation: str, output_shape, fan_in: int, **arguments):
        """Returns a layer with a LeCun normal kernel. Keras cannot tell `fan_in` from the kernel's shape."""
        # A normal distribution truncated at two standard deviations has 0.8796 of its standard deviation left.
        initializer = keras.initializers.TruncatedNormal(stddev=fan_in**-0.5 / 0.87962566103423978)
        arguments = {"kernel_initializer": initializer, "name": name, **arguments}
        return self._sublayer(keras.layers.EinsumDense, equation, output_shape, **arguments)


@keras.saving.register_keras_serializable(package="keras_mixer")
class TokenMixing(MixingMLP):
    """Mixes information across tokens, with the same MLP for each channel.

    Computes `W2 gelu(W1 x)` for each column x of a table of tokens by channels.

    Args:
        mlp_dim: Hidden units of the MLP, D_S in the paper.
        dropout: Dropout rate after the activation and after the MLP, in [0, 1).
        tokens: Tokens in the output; None keeps their number.

    Input shape: `(batch, tokens in, channels)`, static except for the batch.
    Output shape: `(batch, tokens out, channels)`.

    Raises:
        ValueError: If an argument is out of range, or if tokens or channels of the input are not static.

    Example:
        >>> keras_mixer.layers.TokenMixing(mlp_dim=64)(keras.ops.ones((2, 16, 32))).shape
        (2, 16, 32)
    """

    token_axes: TokenAxes = {  # noqa: RUF012 - never changed
        "Dense_0/kernel": (TOKENS_IN, HIDDEN),
        "Dense_0/bias": (HIDDEN,),
        "Dense_1/kernel": (HIDDEN, TOKENS_OUT),
        "Dense_1/bias": (TOKENS_OUT,),
    }
    hidden_arguments = ("mlp_dim",)

    def __init__(self, mlp_dim: int, dropout: float = 0.0, tokens: int | None = None, **kwargs):
        super().__init__(mlp_dim, dropout, **kwargs)
        self.tokens = None if tokens is None else positive_integer("tokens", tokens)

    def build(self, input_shape):
        _, self._tokens, self._channels = self._fixed_table(input_shape)
        self._tokens_out = self.tokens or self._tokens
        self._build_rows_mlp(self._tokens, self._tokens_out)

    def call(self, inputs, training=None):
        columns = ops.transpose(inputs, (0, 2, 1))  # (batch, channels, tokens)
        mixed = self._mlp(ops.reshape(columns, (-1, self._tokens)), training)
        mixed = ops.reshape(mixed, (-1, self._channels, self._tokens_out))
        return ops.transpose(mixed, (0, 2, 1))  # (batch, tokens out, channels)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.tokens or input_shape[1], input_shape[2])


@keras.saving.register_keras_serializable(package="keras_mixer")
class ChannelMixing(MixingMLP):
    """Mixes information across channels, with the same MLP for each token.

    Computes `W4 gelu(W3 x)` for each row x of a table of tokens by channels.

    Args:
        mlp_dim: Hidden units of the MLP, D_C in the paper.
        dropout: Dropout rate after the activation and after the MLP, in [0, 1).

    Input and output shape: `(batch, tokens, channels)`, static except for the batch.

    Raises:
        ValueError: If an argument is out of range, or if tokens or channels of the input are not static.

    Example:
        >>> keras_mixer.layers.ChannelMixing(mlp_dim=128)(keras.ops.ones((2, 16, 32))).shape
        (2, 16, 32)
    """

    def build(self, input_shape):
        _, self._tokens, self._channels = self._fixed_table(input_shape)
        self._build_rows_mlp(self._channels, self._channels)

    def call(self, inputs, training=None):
        mixed = self._mlp(ops.reshape(inputs, (-1, self._channels)), training)
        return ops.reshape(mixed, (-1, self._tokens, self._channels))


@keras.saving.register_keras_serializable(package="keras_mixer")
class MixerBlock(CompositeLayer):
    """One Mixer layer, equation 1 of the paper: `U = X + tokens(LN(X))`, `Y = U + channels(LN(U))`.

    Args:
        tokens_mlp_dim: Hidden units of the token-mixing MLP, D_S in the paper.
        channels_mlp_dim: Hidden units of the channel-mixing MLP, D_C in the paper.
        stochastic_depth: Probabilities in [0, 1) of dropping the token-mixing and the channel-mixing branch of a sample
            while training.
        dropout: Dropout rate inside both MLPs, in [0, 1).
        untied: Whether every channel has its own token-mixing MLP, see `UntiedTokenMixing`.
        channel_groups: Channels that the token-mixing MLP sees at once, see `GroupedTokenMixing`.
        grouping: How these channels are joined, "concat" or "project".
        tokens: Tokens in the output; None keeps their number. If it changes, a `TokenShortcut` maps X in the first sum.

    Input shape: `(batch, tokens in, channels)`, static except for the batch.
    Output shape: `(batch, tokens out, channels)`.

    Raises:
        ValueError: If an argument is out of range, or the block is both untied and grouped.

    Example:
        >>> keras_mixer.layers.MixerBlock(tokens_mlp_dim=64, channels_mlp_dim=128)(keras.ops.ones((2, 16, 32))).shape
        (2, 16, 32)
    """

    hidden_arguments = ("tokens_mlp_dim",)

    def __init__(
        self,
        tokens_mlp_dim: int,
        channels_mlp_dim: int,
        stochastic_depth: tuple[float, float] = (0.0, 0.0),
        dropout: float = 0.0,
        untied: bool = False,
        channel_groups: int = 1,
        grouping: str = "concat",
        tokens: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.tokens_mlp_dim = positive_integer("tokens_mlp_dim", tokens_mlp_dim)
        self.channels_mlp_dim = positive_integer("channels_mlp_dim", channels_mlp_dim)
        if not isinstance(stochastic_depth, (tuple, list)) or len(stochastic_depth) != 2:
            raise ValueError(
                "`stochastic_depth` of a block must be a pair of rates (token mixing, channel mixing), but got "
                f"{stochastic_depth!r}."
            )
        self.stochastic_depth = tuple(rate_below_one("stochastic_depth", rate) for rate in stochastic_depth)
        self.dropout = rate_below_one("dropout", dropout)
        self.untied = boolean("untied", untied)
        self.channel_groups = positive_integer("channel_groups", channel_groups)
        self.grouping = grouping
        self.tokens = None if tokens is None else positive_integer("tokens", tokens)
        # Made here instead of in `build` so that bad arguments are refused at once.
        mixing: dict[str, Any] = {"dropout": self.dropout, "tokens": tokens, "name": "token_mixing"}
        grouped = self.channel_groups > 1 or grouping != "concat"
        if untied and grouped:
            raise ValueError("`untied` and `channel_groups` cannot be used together: leave one of them at its default.")
        if grouped:
            mixing |= {"channel_groups": channel_groups, "grouping": grouping}
        kind = GroupedTokenMixing if grouped else UntiedTokenMixing if untied else TokenMixing
        self.token_mixing = self._sublayer(kind, self.tokens_mlp_dim, **mixing)

    @property
    def token_axes(self) -> TokenAxes:
        """What each axis of the token-mixing weights stands for, see `keras_mixer.shapes`."""
        layers = {"token_mixing": self.token_mixing, "shortcut": self.shortcut}
        return {
            f"{layer_name}/{name}": roles
            for layer_name, layer in layers.items()
            for name, roles in getattr(layer, "token_axes", {}).items()
        }

    def build(self, input_shape):
        drop_tokens, drop_channels = self.stochastic_depth
        mixed_shape = self.compute_output_shape(input_shape)
        if mixed_shape == tuple(input_shape):
            self.shortcut = self._sublayer(keras.layers.Identity, name="shortcut")
        else:
            self.shortcut = self._sublayer(TokenShortcut, mixed_shape[1], name="shortcut")
        self.layer_norm_0 = self._sublayer(LayerNorm, name="LayerNorm_0")
        self.stochastic_depth_0 = self._sublayer(StochasticDepth, drop_tokens, name="StochasticDepth_0")
        self.layer_norm_1 = self._sublayer(LayerNorm, name="LayerNorm_1")
        self.channel_mixing = self._sublayer(
            ChannelMixing, self.channels_mlp_dim, dropout=self.dropout, name="channel_mixing"
        )
        self.stochastic_depth_1 = self._sublayer(StochasticDepth, drop_channels, name="StochasticDepth_1")
        for layer in (self.layer_norm_0, self.token_mixing, self.shortcut):
            layer.build(input_shape)
        for layer in (self.layer_norm_1, self.channel_mixing):
            layer.build(mixed_shape)

    def call(self, inputs, training=None):
        branch = self.token_mixing(self.layer_norm_0(inputs), training=training)
        tokens = self.shortcut(inputs) + self.stochastic_depth_0(branch, training=training)
        branch = self.channel_mixing(self.layer_norm_1(tokens), training=training)
        return tokens + self.stochastic_depth_1(branch, training=training)

    def compute_output_shape(self, input_shape):
        return tuple(self.token_mixing.compute_output_shape(input_shape))


@keras.saving.register_keras_serializable(package="keras_mixer")
class UntiedTokenMixing(TokenMixing):
    """Mixes information across tokens, with a separate MLP for each channel (appendix A).

    It has C times as many parameters as `TokenMixing` and the same number of multiply-adds. The paper saw no noticeable
    improvement on JFT-300M. Arguments, shapes and errors are those of `TokenMixing`.

    Example:
        >>> keras_mixer.layers.UntiedTokenMixing(mlp_dim=64)(keras.ops.ones((2, 16, 32))).shape
        (2, 16, 32)
    """

    token_axes: TokenAxes = {  # noqa: RUF012 - never changed
        "Dense_0/kernel": (OTHER, TOKENS_IN, HIDDEN),
        "Dense_0/bias": (OTHER, HIDDEN),
        "Dense_1/kernel": (OTHER, HIDDEN, TOKENS_OUT),
        "Dense_1/bias": (OTHER, TOKENS_OUT),
    }

    def build(self, input_shape):
        _, tokens, channels = self._fixed_table(input_shape)
        # b: batch, c: channel, s and t: tokens in and out, h: hidden unit
        dense_0 = self._einsum_dense(
            "Dense_0", "bcs,csh->bch", (channels, self.mlp_dim), fan_in=tokens, bias_axes="ch", activation=gelu_tanh
        )
        dense_1 = self._einsum_dense(
            "Dense_1", "bch,cht->bct", (channels, self.tokens or tokens), fan_in=self.mlp_dim, bias_axes="ct"
        )
        self._build_mlp(dense_0, dense_1, (None, channels, tokens), (None, channels, self.mlp_dim))

    def call(self, inputs, training=None):
        columns = ops.transpose(inputs, (0, 2, 1))  # (batch, channels, tokens)
        return ops.transpose(self._mlp(columns, training), (0, 2, 1))  # (batch, tokens out, channels)


@keras.saving.register_keras_serializable(package="keras_mixer")
class GroupedTokenMixing(TokenMixing):
    """Mixes information across tokens and within groups of G channels, with the same MLP for each group (appendix A).

    The table of S tokens by C channels becomes a table of S * G rows by C / G columns. The MLP mixes each column:

    - "concat" joins G neighbouring columns. The paper reports a gain of at most 1 to 2 % in linear 5-shot ImageNet
      accuracy.
    - "project" first maps each token by G learned linear functions to G views of C / G channels, then joins the G views
      of each channel. The paper reports 3 to 4 % for Mixer-S/32 and no gain at larger scales.

    The results are split back into the G columns, so that the output has C channels again.

    Args:
        mlp_dim: Hidden units of the MLP, D_S in the paper.
        channel_groups: G, the number of columns that are joined; a divisor of the number of channels.
        grouping: "concat" or "project".
        dropout, tokens: As in `TokenMixing`. Input and output shapes are the same as well.

    Raises:
        ValueError: In the same cases as `TokenMixing`, and if the groups do not divide the channels.

    Example:
        >>> keras_mixer.layers.GroupedTokenMixing(mlp_dim=64, channel_groups=4)(keras.ops.ones((2, 16, 32))).shape
        (2, 16, 32)
    """

    token_axes: TokenAxes = {  # noqa: RUF012 - never changed
        "Dense_0/kernel": (OTHER, TOKENS_IN, HIDDEN),
        "Dense_0/bias": (HIDDEN,),
        "Dense_1/kernel": (HIDDEN, OTHER, TOKENS_OUT),
        "Dense_1/bias": (OTHER, TOKENS_OUT),
    }

    def __init__(
        self,
        mlp_dim: int,
        channel_groups: int,
        grouping: str = "concat",
        dropout: float = 0.0,
        tokens: int | None = None,
        **kwargs,
    ):
        super().__init__(mlp_dim, dropout, tokens, **kwargs)
        self.channel_groups = positive_integer("channel_groups", channel_groups)
        if grouping not in GROUPINGS:
            raise ValueError(f"`grouping` must be one of {', '.join(GROUPINGS)}, but got {grouping!r}.")
        self.grouping = grouping

    def build(self, input_shape):
        _, tokens, channels = self._fixed_table(input_shape)
        groups, tokens_out = self.channel_groups, self.tokens or tokens
        if channels % groups:
            raise ValueError(f"`channel_groups` must divide the channels, but {groups} does not divide {channels}.")
        self._columns = channels // groups
        # b: batch, f: column of the joined table, g: group, s and t: tokens in and out, h: hidden unit
        dense_0 = self._einsum_dense(
            "Dense_0",
            "bfgs,gsh->bfh",
            (self._columns, self.mlp_dim),
            fan_in=groups * tokens,
            bias_axes="h",
            activation=gelu_tanh,
        )
        dense_1 = self._einsum_dense(
            "Dense_1", "bfh,hgt->bfgt", (self._columns, groups, tokens_out), fan_in=self.mlp_dim, bias_axes="gt"
        )
        self._build_mlp(dense_0, dense_1, (None, self._columns, groups, tokens), (None, self._columns, self.mlp_dim))
        if self.grouping == "project":
            self.views = self._einsum_dense("views", "bsc,cgf->bsfg", (tokens, self._columns, groups), fan_in=channels)
            self.views.build((None, tokens, channels))

    def call(self, inputs, training=None):
        if self.grouping == "project":
            joined = self.views(inputs)  # (batch, tokens, columns, groups)
        else:
            joined = ops.reshape(inputs, (-1, inputs.shape[1], self._columns, self.channel_groups))
        joined = ops.transpose(joined, (0, 2, 3, 1))  # (batch, columns, groups, tokens)
        mixed = self._mlp(joined, training)  # (batch, columns, groups, tokens out)
        mixed = ops.transpose(mixed, (0, 3, 1, 2))
        return ops.reshape(mixed, (-1, mixed.shape[1], self._columns * self.channel_groups))
