"""gMLP's spatial gating unit: half of the channels, mixed across tokens, gates the other half."""

import keras
from keras import ops

from keras_mixer.layers.layer_norm import LayerNorm
from keras_mixer.layers.token_axes import TokenAxes
from keras_mixer.layers.token_linear import TokenLinear

# Of the gate's own norm: PyTorch's default, as the published weights have it; the block's norm has 1e-6.
GATE_NORM_EPSILON = 1e-5


@keras.saving.register_keras_serializable(package="keras_mixer")
class SpatialGatingUnit(keras.layers.Layer):
    """Multiplies one half of the channels by the other half mixed across tokens, `s(Z) = Z1 * (W LN(Z2) + b)`.

    Weights near 0 and biases of 1 at the start make it pass the first half through unchanged. Section 2.1 of gMLP
    (Liu et al., 2021, arXiv 2105.08050).

    Input shape: `(batch, tokens, channels)` with an even number of channels.
    Output shape: `(batch, tokens, channels / 2)`.

    Raises:
        ValueError: If the channels are odd, or tokens or channels not static.

    Example:
        >>> keras_mixer.layers.SpatialGatingUnit()(keras.ops.ones((2, 16, 32))).shape
        (2, 16, 16)
    """

    token_axes: TokenAxes = {  # noqa: RUF012 - never changed
        f"projection/{name}": roles for name, roles in TokenLinear.token_axes.items()
    }

    def build(self, input_shape):
        if len(input_shape) != 3 or None in input_shape[1:] or input_shape[-1] % 2:
            raise ValueError(
                "SpatialGatingUnit expects an input of shape (batch, tokens, channels) with static tokens and an even "
                f"number of channels, but got {tuple(input_shape)}."
            )
        half = (*input_shape[:-1], input_shape[-1] // 2)
        self.norm = LayerNorm(epsilon=GATE_NORM_EPSILON, name="norm", dtype=self.dtype_policy)
        self.projection = TokenLinear(
            kernel_initializer=keras.initializers.RandomNormal(stddev=1e-6),
            bias_initializer="ones",
            name="projection",
            dtype=self.dtype_policy,
        )
        self.norm.build(half)
        self.projection.build(half)

    def call(self, inputs):
        passed, gate = ops.split(inputs, 2, axis=-1)
        return passed * self.projection(self.norm(gate))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], input_shape[-1] // 2)
