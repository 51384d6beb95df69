"""The residual path where a block puts out fewer tokens than it takes in (appendix A of the paper, pyramids)."""

import keras
from keras import ops

from keras_mixer.layers.checks import positive_integer
from keras_mixer.layers.mixing import static_table
from keras_mixer.layers.token_axes import TOKENS_IN, TOKENS_OUT, TokenAxes


@keras.saving.register_keras_serializable(package="keras_mixer")
class TokenShortcut(keras.layers.Layer):
    """Maps tokens linearly to another number of tokens, the same map for every channel, without bias.

    The paper does not say what its pyramids add their smaller tables to. This is the projection shortcut of residual
    networks (He et al., 2016, arXiv 1512.03385), along the axis of tokens.

    Args:
        tokens: Tokens that come out.

    Input shape: `(batch, tokens in, channels)`.
    Output shape: `(batch, tokens, channels)`.

    Raises:
        ValueError: If `tokens` is not positive, or if tokens or channels of the input are not static.

    Example:
        >>> keras_mixer.layers.TokenShortcut(tokens=4)(keras.ops.ones((2, 16, 32))).shape
        (2, 4, 32)
    """

    token_axes: TokenAxes = {"kernel": (TOKENS_IN, TOKENS_OUT)}  # noqa: RUF012 - never changed

    def __init__(self, tokens: int, **kwargs):
        super().__init__(**kwargs)
        self.tokens = positive_integer("tokens", tokens)

    def build(self, input_shape):
        _, tokens_in, _ = static_table("TokenShortcut", input_shape)
        self.kernel = self.add_weight(name="kernel", shape=(tokens_in, self.tokens), initializer="lecun_normal")

    def call(self, inputs):
        columns = ops.matmul(ops.transpose(inputs, (0, 2, 1)), self.kernel)  # (batch, channels, tokens out)
        return ops.transpose(columns, (0, 2, 1))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.tokens, input_shape[2])

    def get_config(self):
        return {**super().get_config(), "tokens": self.tokens}
