"""One linear map across tokens: the spatial half of ResMLP and of gMLP."""

import keras
from keras import ops

from keras_mixer.layers.mixing import static_table
from keras_mixer.layers.token_axes import TOKENS_IN, TOKENS_OUT, TokenAxes


@keras.saving.register_keras_serializable(package="keras_mixer")
class TokenLinear(keras.layers.Layer):
    """Maps the tokens of each channel linearly to as many tokens, `Y = A X + b`, the same for all channels.

    Equation 2 of ResMLP (arXiv 2105.03404); equation 2 of gMLP (arXiv 2105.08050). The number of tokens must be
    static, for the weights depend on it.

    Args:
        kernel_initializer: Initializer of the `(tokens, tokens)` matrix.
        bias_initializer: Initializer of the bias, one value for each token written.

    Input and output shape: `(batch, tokens, channels)`.

    Raises:
        ValueError: If tokens or channels of the input are not static.

    Example:
        >>> keras_mixer.layers.TokenLinear()(keras.ops.ones((2, 16, 32))).shape
        (2, 16, 32)
    """

    token_axes: TokenAxes = {"kernel": (TOKENS_IN, TOKENS_OUT), "bias": (TOKENS_OUT,)}  # noqa: RUF012 - never changed

    def __init__(self, kernel_initializer="lecun_normal", bias_initializer="zeros", **kwargs):
        super().__init__(**kwargs)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, input_shape):
        _, self._tokens, self._channels = static_table("TokenLinear", input_shape)
        self.kernel = self.add_weight(
            name="kernel", shape=(self._tokens, self._tokens), initializer=self.kernel_initializer
        )
        self.bias = self.add_weight(name="bias", shape=(self._tokens,), initializer=self.bias_initializer)

    def call(self, inputs):
        columns = ops.transpose(inputs, (0, 2, 1))  # (batch, channels, tokens)
        mixed = ops.matmul(ops.reshape(columns, (-1, self._tokens)), self.kernel) + self.bias
        mixed = ops.reshape(mixed, (-1, self._channels, self._tokens))
        return ops.transpose(mixed, (0, 2, 1))  # (batch, tokens, channels)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }
