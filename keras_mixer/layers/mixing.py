"""The two MLPs of a Mixer layer: one mixes tokens, the other mixes channels (equation 1 of the paper)."""

import keras
from keras import ops

from keras_mixer.layers.checks import positive_integer, rate_below_one
from keras_mixer.layers.gelu import gelu_tanh
from keras_mixer.layers.token_axes import HIDDEN, TOKENS_IN, TOKENS_OUT, TokenAxes


class MixingMLP(keras.layers.Layer):
    """Dense, GELU, Dense along one axis of a table of tokens by channels.

    Both products are taken as 2-D products of all other axes by the mixed one: every backend runs those at the speed
    of its matrix product, with bias and activation fused.
    """

    def __init__(self, mlp_dim: int, dropout: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.mlp_dim = positive_integer("mlp_dim", mlp_dim)
        self.dropout = rate_below_one("dropout", dropout)

    def _build_mlp(self, width: int, width_out: int) -> None:
        """Builds the MLP that maps `width` values to `mlp_dim` hidden units and those to `width_out` values."""
        # LeCun normal kernels and zero biases, as the reference implementation initialises them.
        dense = {"kernel_initializer": "lecun_normal", "dtype": self.dtype_policy}
        self.dense_0 = keras.layers.Dense(self.mlp_dim, activation=gelu_tanh, name="Dense_0", **dense)
        self.dense_1 = keras.layers.Dense(width_out, name="Dense_1", **dense)
        self.dense_0.build((None, width))
        self.dense_1.build((None, self.mlp_dim))
        self._build_dropout()

    def _build_dropout(self) -> None:
        self.dropout_0 = keras.layers.Dropout(self.dropout, name="Dropout_0", dtype=self.dtype_policy)
        self.dropout_1 = keras.layers.Dropout(self.dropout, name="Dropout_1", dtype=self.dtype_policy)

    def _mlp(self, rows, training):
        """Applies the MLP to rows of shape `(n, width)`."""
        hidden = self.dropout_0(self.dense_0(rows), training=training)
        return self.dropout_1(self.dense_1(hidden), training=training)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "mlp_dim": self.mlp_dim, "dropout": self.dropout}


@keras.saving.register_keras_serializable(package="keras_mixer")
class TokenMixing(MixingMLP):
    """Mixes information across tokens, each channel on its own with the same MLP.

    Computes `W2 gelu(W1 x)` for each column x of a table of tokens by channels. The number of tokens must be static,
    for the weights depend on it. Section 2 of the paper.

    Args:
        mlp_dim: Hidden units of the MLP, D_S in the paper.
        dropout: Dropout rate after the activation and after the MLP, in [0, 1).
        tokens: Tokens that come out; None for as many as go in.

    Input shape: `(batch, tokens in, channels)`.
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
        _, self._tokens, self._channels = static_table("TokenMixing", input_shape)
        self._tokens_out = self.tokens or self._tokens
        self._build_mlp(self._tokens, self._tokens_out)

    def call(self, inputs, training=None):
        columns = ops.transpose(inputs, (0, 2, 1))  # (batch, channels, tokens)
        mixed = self._mlp(ops.reshape(columns, (-1, self._tokens)), training)
        mixed = ops.reshape(mixed, (-1, self._channels, self._tokens_out))
        return ops.transpose(mixed, (0, 2, 1))  # (batch, tokens out, channels)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.tokens or input_shape[1], input_shape[2])

    def get_config(self):
        return {**super().get_config(), "tokens": self.tokens}


@keras.saving.register_keras_serializable(package="keras_mixer")
class ChannelMixing(MixingMLP):
    """Mixes information across channels, each token on its own with the same MLP.

    Computes `W4 gelu(W3 x)` for each row x of a table of tokens by channels. Section 2 of the paper.

    Args:
        mlp_dim: Hidden units of the MLP, D_C in the paper.
        dropout: Dropout rate after the activation and after the MLP, in [0, 1).

    Input and output shape: `(batch, tokens, channels)`.

    Raises:
        ValueError: If an argument is out of range, or if tokens or channels of the input are not static.

    Example:
        >>> keras_mixer.layers.ChannelMixing(mlp_dim=128)(keras.ops.ones((2, 16, 32))).shape
        (2, 16, 32)
    """

    def build(self, input_shape):
        _, self._tokens, self._channels = static_table("ChannelMixing", input_shape)
        self._build_mlp(self._channels, self._channels)

    def call(self, inputs, training=None):
        mixed = self._mlp(ops.reshape(inputs, (-1, self._channels)), training)
        return ops.reshape(mixed, (-1, self._tokens, self._channels))


def static_table(layer: str, input_shape) -> tuple:
    """Returns the shape of a table of tokens by channels.

    Raises:
        ValueError: If it is none, or if tokens or channels are not static.
    """
    if len(input_shape) != 3 or None in input_shape[1:]:
        raise ValueError(
            f"{layer} expects an input of shape (batch, tokens, channels) with static tokens and channels, "
            f"but got {tuple(input_shape)}. Give the model a static image size."
        )
    return tuple(input_shape)
