"""LayerNorm in the form that LiteRT runs fastest."""

import keras
from keras import ops


class _CentredLayerNormalization(keras.layers.LayerNormalization):
    """The same function, written with one subtraction.

    Keras's own form multiplies mean and input by the scale separately. LiteRT fuses nothing, so that each step is a
    pass over the whole tensor; beside int8 products those passes are a large part of the time.
    """

    def call(self, inputs):
        centred = inputs - ops.mean(inputs, axis=-1, keepdims=True)
        variance = ops.mean(centred * centred, axis=-1, keepdims=True)
        return centred * ops.rsqrt(variance + self.epsilon) * self.gamma + self.beta


def with_centred_layer_norm(model: keras.Model) -> keras.Model:
    """Returns a copy of a float32 model in which every LayerNorm over the last axis has the form above."""
    copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    for layer in copy._flatten_layers():
        if type(layer) is keras.layers.LayerNormalization and _is_usual(layer):
            # Blocks make their own LayerNorm, which no configuration names: it is changed where it stands.
            layer.__class__ = _CentredLayerNormalization
    return copy


def _is_usual(layer: keras.layers.LayerNormalization) -> bool:
    # An axis counted from the front may be the last one too; nobody writes it so, and the model stays as it is then.
    return layer.gamma is not None and layer.beta is not None and layer.axis in (-1, [-1], (-1,))
