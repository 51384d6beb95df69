"""The MLP over channels that Mixer's siblings share, and products over channels as one matrix product."""

import math

import keras
from keras import ops

from keras_mixer.shapes import positive_integer, rate_below_one


@keras.saving.register_keras_serializable(package="keras_mixer")
def gelu_erf(x):
    """Returns `x * Phi(x)`, the form of GELU that Mixer's siblings were trained with.

    Phi is the normal distribution function. It is written with erf where `keras.activations.gelu` uses erfc, because
    ONNX does not have erfc.
    """
    x = ops.convert_to_tensor(x)
    return 0.5 * x * (1.0 + ops.erf(x * math.sqrt(0.5)))


def as_rows(inputs):
    """Reshapes `(batch, ..., channels)` to `(n, channels)`, which every backend multiplies at full speed."""
    return inputs if len(inputs.shape) == 2 else ops.reshape(inputs, (-1, inputs.shape[-1]))


def restored(inputs, rows):
    """Reshapes `rows` of shape `(n, channels)` to the leading axes of `inputs`, whose lengths may be unknown."""
    if len(inputs.shape) == 2:
        return rows
    # A single unknown length can be -1, which keeps operations on shapes out of an exported graph.
    lengths = [-1, *inputs.shape[1:-1]]
    if None in lengths:
        lengths = list(ops.shape(inputs)[:-1])
    return ops.reshape(rows, (*lengths, rows.shape[-1]))


@keras.saving.register_keras_serializable(package="keras_mixer")
class ChannelDense(keras.layers.Dense):
    """A `keras.layers.Dense` that multiplies all rows at once.

    Keras's own layer multiplies sample by sample, which some runtimes do slowly.
    """

    def call(self, inputs, training=None):
        return restored(inputs, super().call(as_rows(inputs), training=training))


@keras.saving.register_keras_serializable(package="keras_mixer")
class ChannelMLP(keras.layers.Layer):
    """Dense, GELU, Dense along the last axis of tokens or of a feature map of any size.

    Unlike `ChannelMixing` it has the erf form of GELU, takes any axes before the channels and puts out any number of
    channels, because the siblings' published weights need that.

    Args:
        mlp_dim: Hidden units.
        output_dim: Output channels; None for as many as the input has.
        dropout: Dropout rate after the activation and after the MLP, in [0, 1).

    Input shape: `(batch, ..., channels)`.
    Output shape: `(batch, ..., output_dim)`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> keras_mixer.layers.ChannelMLP(mlp_dim=64)(keras.ops.ones((2, 7, 7, 16))).shape
        (2, 7, 7, 16)
    """

    def __init__(self, mlp_dim: int, output_dim: int | None = None, dropout: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.mlp_dim = positive_integer("mlp_dim", mlp_dim)
        self.output_dim = None if output_dim is None else positive_integer("output_dim", output_dim)
        self.dropout = rate_below_one("dropout", dropout)

    def build(self, input_shape):
        width = input_shape[-1]
        # The code of ResMLP, Vision Permutator and CycleMLP starts from this distribution and zero biases.
        dense = {
            "kernel_initializer": keras.initializers.TruncatedNormal(stddev=0.02),
            "dtype": self.dtype_policy,
        }
        self.dense_0 = keras.layers.Dense(self.mlp_dim, activation=gelu_erf, name="Dense_0", **dense)
        self.dense_1 = keras.layers.Dense(self.output_dim or width, name="Dense_1", **dense)
        self.dropout_0 = keras.layers.Dropout(self.dropout, name="Dropout_0", dtype=self.dtype_policy)
        self.dropout_1 = keras.layers.Dropout(self.dropout, name="Dropout_1", dtype=self.dtype_policy)
        self.dense_0.build((None, width))
        self.dense_1.build((None, self.mlp_dim))

    def call(self, inputs, training=None):
        hidden = self.dropout_0(self.dense_0(as_rows(inputs)), training=training)
        outputs = self.dropout_1(self.dense_1(hidden), training=training)
        return restored(inputs, outputs)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.output_dim or input_shape[-1])

    def get_config(self):
        own = {"mlp_dim": self.mlp_dim, "output_dim": self.output_dim, "dropout": self.dropout}
        return {**super().get_config(), **own}
