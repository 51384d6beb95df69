"""Token mixing with an MLP of its own for each channel (appendix A of the paper)."""

import keras
from keras import ops

from keras_mixer.layers.gelu import gelu_tanh
from keras_mixer.layers.initializers import lecun_normal
from keras_mixer.layers.mixing import TokenMixing, static_table
from keras_mixer.layers.token_axes import HIDDEN, OTHER, TOKENS_IN, TOKENS_OUT, TokenAxes


@keras.saving.register_keras_serializable(package="keras_mixer")
class UntiedTokenMixing(TokenMixing):
    """Mixes information across tokens, each channel with an MLP of its own.

    The base model shares one MLP between all columns of the table; here there are C of them, and C times the
    parameters, at the same number of multiply-adds. The paper saw no noticeable improvement on JFT-300M.

    Args:
        mlp_dim: Hidden units of each MLP, D_S in the paper.
        dropout: Dropout rate after the activation and after the MLP, in [0, 1).
        tokens: Tokens that come out; None for as many as go in.

    Input shape: `(batch, tokens in, channels)`.
    Output shape: `(batch, tokens out, channels)`.

    Raises:
        ValueError: If an argument is out of range, or if tokens or channels of the input are not static.

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
        _, tokens, channels = static_table("UntiedTokenMixing", input_shape)
        tokens_out = self.tokens or tokens
        # b: batch, c: channel, s and t: tokens in and out, h: hidden unit
        self.dense_0 = keras.layers.EinsumDense(
            "bcs,csh->bch",
            output_shape=(channels, self.mlp_dim),
            bias_axes="ch",
            activation=gelu_tanh,
            kernel_initializer=lecun_normal(fan_in=tokens),
            dtype=self.dtype_policy,
            name="Dense_0",
        )
        self.dense_1 = keras.layers.EinsumDense(
            "bch,cht->bct",
            output_shape=(channels, tokens_out),
            bias_axes="ct",
            kernel_initializer=lecun_normal(fan_in=self.mlp_dim),
            dtype=self.dtype_policy,
            name="Dense_1",
        )
        self.dense_0.build((None, channels, tokens))
        self.dense_1.build((None, channels, self.mlp_dim))
        self._build_dropout()

    def call(self, inputs, training=None):
        columns = ops.transpose(inputs, (0, 2, 1))  # (batch, channels, tokens)
        return ops.transpose(self._mlp(columns, training), (0, 2, 1))  # (batch, tokens out, channels)
