"""Linear maps over tokens: those of ResMLP and gMLP, and the shortcut of a Mixer that reduces its tokens."""

import keras
from keras import ops

from keras_mixer.layers.base import CompositeLayer, PlainLayer
from keras_mixer.layers.normalisation import LayerNorm
from keras_mixer.shapes import TOKENS_IN, TOKENS_OUT, TokenAxes, positive_integer


@keras.saving.register_keras_serializable(package="keras_mixer")
class TokenLinear(PlainLayer):
    """Mixes the tokens of each channel by one linear map that all channels share, `Y = A X + b`.

    See equation 2 of ResMLP (arXiv 2105.03404) and equation 2 of gMLP (arXiv 2105.08050).

    Args:
        kernel_initializer: Initializer of the `(tokens, tokens)` matrix.
        bias_initializer: Initializer of the bias, which has one value per token.

    Input and output shape: `(batch, tokens, channels)`, static except for the batch.

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
        _, self._tokens, self._channels = self._fixed_table(input_shape)
        self.kernel = self.add_weight(
            name="kernel", shape=(self._tokens, self._tokens), initializer=self.kernel_initializer
        )
        self.bias = self.add_weight(name="bias", shape=(self._tokens,), initializer=self.bias_initializer)

    def call(self, inputs):
        columns = ops.transpose(inputs, (0, 2, 1))  # (batch, channels, tokens)
        mixed = ops.matmul(ops.reshape(columns, (-1, self._tokens)), self.kernel) + self.bias
        mixed = ops.reshape(mixed, (-1, self._channels, self._tokens))
        return ops.transpose(mixed, (0, 2, 1))  # (batch, tokens, channels)

    def get_config(self):
        return {
            **super().get_config(),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }


GATE_NORM_EPSILON = 1e-5  # PyTorch's default, as in the published weights; the block's own norm uses 1e-6


@keras.saving.register_keras_serializable(package="keras_mixer")
class SpatialGatingUnit(CompositeLayer):
    """Multiplies one half of the channels by the other half, mixed across tokens: `s(Z) = Z1 * (W LN(Z2) + b)`.

    The weights start near 0 and the biases at 1, so that the first half initially passes unchanged. See section 2.1 of
    gMLP (Liu et al., 2021, arXiv 2105.08050).

    Input shape: `(batch, tokens, channels)` with an even number of channels.
    Output shape: `(batch, tokens, channels / 2)`.

    Raises:
        ValueError: If the number of channels is odd, or if tokens or channels are not static.

    Example:
        >>> keras_mixer.layers.SpatialGatingUnit()(keras.ops.ones((2, 16, 32))).shape
        (2, 16, 16)
    """

    token_axes: TokenAxes = {  # noqa: RUF012 - never changed
        f"projection/{name}": roles for name, roles in TokenLinear.token_axes.items()
    }

    def build(self, input_shape):
        batch, tokens, channels = self._fixed_table(input_shape)
        if channels % 2:
            raise ValueError(f"SpatialGatingUnit expects an even number of channels, but got {tuple(input_shape)}.")
        half = (batch, tokens, channels // 2)
        self.norm = self._sublayer(LayerNorm, epsilon=GATE_NORM_EPSILON, name="norm")
        self.projection = self._sublayer(
            TokenLinear, keras.initializers.RandomNormal(stddev=1e-6), bias_initializer="ones", name="projection"
        )
        self.norm.build(half)
        self.projection.build(half)

    def call(self, inputs):
        passed, gate = ops.split(inputs, 2, axis=-1)
        return passed * self.projection(self.norm(gate))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], input_shape[-1] // 2)


@keras.saving.register_keras_serializable(package="keras_mixer")
class TokenShortcut(PlainLayer):
    """Maps the tokens of each channel to another number of tokens by one linear map without bias.

    It is the residual path of a Mixer block that reduces the tokens (appendix A of the paper, pyramids). The paper does
    not describe that path, so this layer applies the projection shortcut of residual networks (He et al., 2016, arXiv
    1512.03385) to the token axis.

    Args:
        tokens: Tokens in the output.

    Input shape: `(batch, tokens in, channels)`, static except for the batch.
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
        _, tokens_in, _ = self._fixed_table(input_shape)
        self.kernel = self.add_weight(name="kernel", shape=(tokens_in, self.tokens), initializer="lecun_normal")

    def call(self, inputs):
        columns = ops.matmul(ops.transpose(inputs, (0, 2, 1)), self.kernel)  # (batch, channels, tokens out)
        return ops.transpose(columns, (0, 2, 1))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.tokens, input_shape[2])
