"""The two forms of GELU: by tanh, as Mixer was trained, and by erf, as its siblings were."""

import math

import keras
from keras import ops


def gelu_tanh(x):
    """Returns `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`, which is not Keras's default form."""
    return ops.gelu(x, approximate=True)


@keras.saving.register_keras_serializable(package="keras_mixer")
def gelu_erf(x):
    """Returns `x * Phi(x)`, with the normal distribution function Phi by way of erf.

    The same as `keras.activations.gelu`, but written with erf instead of erfc: ONNX has no erfc, and LiteRT fuses
    either into its built-in GELU.
    """
    x = ops.convert_to_tensor(x)
    return 0.5 * x * (1.0 + ops.erf(x * math.sqrt(0.5)))
