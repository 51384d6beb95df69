"""Normalisation: LayerNorm over channels, and the affine map that ResMLP uses instead."""

import keras
from keras import ops

from keras_mixer.layers.base import PlainLayer
from keras_mixer.layers.elementwise import elementwise
from keras_mixer.shapes import boolean

LAYER_NORM_EPSILON = 1e-6  # of the published weights; Keras's default is 1e-3


def layer_norm(inputs, *weights, epsilon: float, scale: bool, center: bool, dtype: str):
    """Normalises the last axis to a result of type `dtype`. Weights are gamma if `scale`, then beta if `center`."""
    values = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
    left = iter(weights)
    centred = values - ops.mean(values, axis=-1, keepdims=True)
    # Not `ops.square`, because LiteRT would fuse the square with the difference and subtract twice.
    variance = ops.mean(centred * centred, axis=-1, keepdims=True)
    normalised = centred * ops.rsqrt(variance + epsilon)
    if scale:
        normalised = normalised * ops.cast(next(left), values.dtype)
    if center:
        normalised = normalised + ops.cast(next(left), values.dtype)
    return ops.cast(normalised, dtype)


@keras.saving.register_keras_serializable(package="keras_mixer")
class LayerNorm(keras.layers.LayerNormalization):
    """Normalises each token over its channels.

    It computes the same as `keras.layers.LayerNormalization`, but subtracts the mean first and uses float32 or float64.
    This order rounds less and runs fastest in LiteRT.

    Args:
        epsilon: Added to the variance.
        center: Whether to add the weight `beta`.
        scale: Whether to multiply by the weight `gamma`.

    Input and output shape: `(..., channels)`.

    Example:
        >>> round(float(keras.ops.std(keras_mixer.layers.LayerNorm()(keras.ops.arange(8.0)[None]))), 4)
        1.0
    """

    def __init__(self, epsilon: float = LAYER_NORM_EPSILON, center: bool = True, scale: bool = True, **kwargs):
        super().__init__(axis=-1, epsilon=epsilon, center=center, scale=scale, **kwargs)

    def call(self, inputs):
        weights = [weight for weight in (self.gamma, self.beta) if weight is not None]
        form = {"epsilon": self.epsilon, "scale": self.scale, "center": self.center, "dtype": self.compute_dtype}
        return elementwise(layer_norm, inputs, *weights, **form)

    def get_config(self):
        config = super().get_config()
        del config["axis"]  # always the last
        return config


@keras.saving.register_keras_serializable(package="keras_mixer")
class Affine(PlainLayer):
    """Multiplies each channel by a learned factor and adds a learned shift, `Aff(x) = scale * x + bias`.

    ResMLP uses it in place of a normalisation and as LayerScale (equation 1 of Touvron et al., 2021, arXiv 2105.03404).
    It does not depend on statistics of its input, so inference can merge it into the next linear layer.

    Args:
        initial_scale: Initial factor of every channel. LayerScale uses a small one.
        use_bias: Whether to add the shift, which starts at zero. LayerScale does not add one.

    Input and output shape: `(batch, ..., channels)`.

    Example:
        >>> keras_mixer.layers.Affine()(keras.ops.ones((2, 16, 32))).shape
        (2, 16, 32)
    """

    def __init__(self, initial_scale: float = 1.0, use_bias: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.initial_scale = float(initial_scale)
        self.use_bias = boolean("use_bias", use_bias)

    def build(self, input_shape):
        shape = (input_shape[-1],)
        self.input_spec = keras.InputSpec(axes={-1: input_shape[-1]})  # a single channel would be repeated
        constant = keras.initializers.Constant(self.initial_scale)
        self.scale = self.add_weight(name="scale", shape=shape, initializer=constant)
        self.bias = self.add_weight(name="bias", shape=shape, initializer="zeros") if self.use_bias else None

    def call(self, inputs):
        outputs = inputs * self.scale
        return outputs if self.bias is None else outputs + self.bias
