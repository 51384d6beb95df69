"""One Mixer layer: token mixing, then channel mixing, each normalised before and skipped around."""

import keras

from keras_mixer.layers.checks import positive_integer, rate_below_one
from keras_mixer.layers.layer_norm import LayerNorm
from keras_mixer.layers.mixing import ChannelMixing
from keras_mixer.layers.stochastic_depth import StochasticDepth
from keras_mixer.layers.token_axes import TokenAxes
from keras_mixer.layers.token_mixing_variants import token_mixing
from keras_mixer.layers.token_shortcut import TokenShortcut


@keras.saving.register_keras_serializable(package="keras_mixer")
class MixerBlock(keras.layers.Layer):
    """One Mixer layer, equation 1 of the paper: `U = X + tokens(LN(X))`, `Y = U + channels(LN(U))`.

    Args:
        tokens_mlp_dim: Hidden units of the token-mixing MLP, D_S in the paper.
        channels_mlp_dim: Hidden units of the channel-mixing MLP, D_C in the paper.
        stochastic_depth: Pair of probabilities with which the token-mixing and the channel-mixing branch are dropped
            for a sample while training, each in [0, 1).
        dropout: Dropout rate inside both MLPs, in [0, 1).
        untied: Whether every channel has a token-mixing MLP of its own (appendix A).
        channel_groups: Channels that the token-mixing MLP sees at once, G in appendix A.
        grouping: How they are joined, "concat" or "project"; see `GroupedTokenMixing`.
        tokens: Tokens that come out; None for as many as go in. If they are fewer, X in the first sum is mapped to
            as many by a `TokenShortcut`, and the channel-mixing MLP runs on these.

    Input shape: `(batch, tokens in, channels)`.
    Output shape: `(batch, tokens out, channels)`.

    Raises:
        ValueError: If an argument is out of range, or a block is to be untied and grouped.

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
        self.stochastic_depth = _pair_of_rates(stochastic_depth)
        self.dropout = rate_below_one("dropout", dropout)
        self.untied = untied
        self.channel_groups = channel_groups
        self.grouping = grouping
        self.tokens = tokens
        # Made here, for it checks the arguments that choose it.
        self.token_mixing = token_mixing(
            self.tokens_mlp_dim,
            untied=untied,
            channel_groups=channel_groups,
            grouping=grouping,
            dropout=self.dropout,
            tokens=tokens,
            dtype=self.dtype_policy,
        )

    @property
    def token_axes(self) -> TokenAxes:
        """Roles of the axes of the weights over tokens, see `keras_mixer.layers.token_axes`."""
        layers = {"token_mixing": self.token_mixing, "shortcut": self.shortcut}
        return {
            f"{layer_name}/{name}": roles
            for layer_name, layer in layers.items()
            for name, roles in getattr(layer, "token_axes", {}).items()
        }

    def build(self, input_shape):
        mixing = {"dropout": self.dropout, "dtype": self.dtype_policy}
        drop_tokens, drop_channels = self.stochastic_depth
        mixed_shape = self.compute_output_shape(input_shape)
        if mixed_shape == tuple(input_shape):
            self.shortcut = keras.layers.Identity(name="shortcut", dtype=self.dtype_policy)
        else:
            self.shortcut = TokenShortcut(mixed_shape[1], name="shortcut", dtype=self.dtype_policy)
        self.layer_norm_0 = LayerNorm(name="LayerNorm_0", dtype=self.dtype_policy)
        self.stochastic_depth_0 = StochasticDepth(drop_tokens, name="StochasticDepth_0", dtype=self.dtype_policy)
        self.layer_norm_1 = LayerNorm(name="LayerNorm_1", dtype=self.dtype_policy)
        self.channel_mixing = ChannelMixing(self.channels_mlp_dim, name="channel_mixing", **mixing)
        self.stochastic_depth_1 = StochasticDepth(drop_channels, name="StochasticDepth_1", dtype=self.dtype_policy)
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

    def get_config(self):
        return {
            **super().get_config(),
            "tokens_mlp_dim": self.tokens_mlp_dim,
            "channels_mlp_dim": self.channels_mlp_dim,
            "stochastic_depth": self.stochastic_depth,
            "dropout": self.dropout,
            "untied": self.untied,
            "channel_groups": self.channel_groups,
            "grouping": self.grouping,
            "tokens": self.tokens,
        }


def _pair_of_rates(rates) -> tuple[float, float]:
    if not isinstance(rates, (tuple, list)) or len(rates) != 2:
        raise ValueError(
            "`stochastic_depth` of a block is a pair of rates, of the token-mixing and of the channel-mixing branch, "
            f"but got {rates!r}."
        )
    return rate_below_one("stochastic_depth", rates[0]), rate_below_one("stochastic_depth", rates[1])
