"""Scale and shift of each channel: ResMLP's normalisation and its LayerScale."""

import keras


@keras.saving.register_keras_serializable(package="keras_mixer")
class Affine(keras.layers.Layer):
    """Multiplies each channel by a learned factor and adds a learned shift, `Aff(x) = scale * x + bias`.

    Unlike LayerNorm it takes no statistics of its input, so that at inference it can be merged into the linear layer
    that follows. Equation 1 of ResMLP (Touvron et al., 2021, arXiv 2105.03404).

    Args:
        initial_scale: Factor that every channel starts from; small for LayerScale.
        use_bias: Whether to add the shift, which starts from zero. LayerScale has none.

    Input and output shape: `(batch, ..., channels)`.

    Example:
        >>> keras_mixer.layers.Affine()(keras.ops.ones((2, 16, 32))).shape
        (2, 16, 32)
    """

    def __init__(self, initial_scale: float = 1.0, use_bias: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.initial_scale = float(initial_scale)
        self.use_bias = bool(use_bias)

    def build(self, input_shape):
        shape = (input_shape[-1],)
        constant = keras.initializers.Constant(self.initial_scale)
        self.scale = self.add_weight(name="scale", shape=shape, initializer=constant)
        self.bias = self.add_weight(name="bias", shape=shape, initializer="zeros") if self.use_bias else None

    def call(self, inputs):
        outputs = inputs * self.scale
        return outputs if self.bias is None else outputs + self.bias

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "initial_scale": self.initial_scale, "use_bias": self.use_bias}
