"""The two-layer MLP that every kind of mixing uses, and the channel MLP of Mixer's siblings."""

import math

import keras
from keras import ops

from keras_mixer.layers.base import CompositeLayer
from keras_mixer.layers.elementwise import elementwise
from keras_mixer.shapes import positive_integer, rate_below_one


@keras.saving.register_keras_serializable(package="keras_mixer")
def gelu_erf(x):
    """Returns `x * Phi(x)`, the form of GELU that Mixer's siblings were trained with.

    Phi is the normal distribution function. It is written with erf where `keras.activations.gelu` uses erfc, because
    ONNX does not have erfc.
    """
    return elementwise(_gelu_erf, ops.convert_to_tensor(x))


def _gelu_erf(x):
    return 0.5 * x * (1.0 + ops.erf(x * math.sqrt(0.5)))


def as_rows(inputs):
    """Reshapes `(batch, ..., channels)` to `(n, channels)`, which every backend multiplies at full speed.

    A symbolic tensor with unknown sides is returned unchanged, because `restored` could not reshape it back.
    """
    if len(inputs.shape) == 2 or (isinstance(inputs, keras.KerasTensor) and None in inputs.shape[1:]):
        return inputs
    return ops.reshape(inputs, (-1, inputs.shape[-1]))


def restored(inputs, rows):
    """Reshapes `rows` from `as_rows` to the leading axes of `inputs`, whose lengths may be unknown."""
    if len(inputs.shape) == len(rows.shape):
        return rows
    # A single unknown length can be -1, which keeps operations on shapes out of an exported graph.
    lengths = [-1, *inputs.shape[1:-1]]
    if None in lengths:
        lengths = list(ops.shape(inputs)[:-1])
    return ops.reshape(rows, (*lengths, rows.shape[-1]))


def _activated(product, *bias, activation):
    return activation(ops.add(product, *bias) if bias else product)


@keras.saving.register_keras_serializable(package="keras_mixer")
class ActivatedDense(keras.layers.Dense):
    """A `keras.layers.Dense` that training on a CPU computes with fewer passes over memory.

    Bias and activation are one formula, which training compiles into one pass. An activation that is a layer, such as
    `keras.layers.PReLU`, is computed as in `keras.layers.Dense`.

    Args:
        units: Output channels.
        activation: Function of a tensor, its name, or a layer.
        **kwargs: Other arguments of `keras.layers.Dense`.

    Input shape: `(batch, ..., channels)`.
    Output shape: `(batch, ..., units)`.

    Example:
        >>> keras_mixer.layers.ActivatedDense(64, activation="gelu")(keras.ops.ones((2, 49, 16))).shape
        (2, 49, 64)
    """

    def call(self, inputs, training=None):
        # The formula's gradient would not reach the weights of a layer.
        if self.activation is keras.activations.linear or isinstance(self.activation, keras.Operation):
            return super().call(inputs, training=training)
        bias = () if self.bias is None else (self.bias,)
        return elementwise(_activated, ops.matmul(inputs, self.kernel), *bias, activation=self.activation)

    def quantize(self, mode=None, type_check=True, config=None):
        super().quantize(mode, type_check=False, config=config)  # by default Keras skips subclasses of Dense


@keras.saving.register_keras_serializable(package="keras_mixer")
class ChannelDense(ActivatedDense):
    """A `keras.layers.Dense` that multiplies all rows in one matrix product.

    Keras's own layer multiplies sample by sample, and some runtimes do this slowly.
    """

    def call(self, inputs, training=None):
        return restored(inputs, super().call(as_rows(inputs), training=training))

    def quantized_call(self, inputs, training=None):
        return restored(inputs, super().quantized_call(as_rows(inputs), training=training))


def small_dense(units: int, *, kind=keras.layers.Dense, **arguments) -> keras.layers.Dense:
    """Returns a Dense layer initialised as in the authors' code of ResMLP, Vision Permutator and CycleMLP."""
    # Each layer needs its own initializer, because an initializer returns the same values at every call.
    initializer = keras.initializers.TruncatedNormal(stddev=0.02)
    return kind(units, kernel_initializer=initializer, **arguments)


class MLP(CompositeLayer):
    """Dense, GELU, Dense, with dropout after the activation and after the second Dense layer."""

    def __init__(self, mlp_dim: int, dropout: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.mlp_dim = positive_integer("mlp_dim", mlp_dim)
        self.dropout = rate_below_one("dropout", dropout)

    def _build_mlp(self, dense_0, dense_1, shape, hidden_shape) -> None:
        """Builds the two Dense layers for inputs of `shape` and hidden values of `hidden_shape`."""
        self.dense_0, self.dense_1 = dense_0, dense_1
        self.dense_0.build(shape)
        self.dense_1.build(hidden_shape)
        self.dropout_0 = self._sublayer(keras.layers.Dropout, self.dropout, name="Dropout_0")
        self.dropout_1 = self._sublayer(keras.layers.Dropout, self.dropout, name="Dropout_1")

    def _mlp(self, rows, training):
        hidden = self.dropout_0(self.dense_0(rows), training=training)
        return self.dropout_1(self.dense_1(hidden), training=training)


@keras.saving.register_keras_serializable(package="keras_mixer")
class ChannelMLP(MLP):
    """Applies Dense, GELU, Dense to the last axis of tokens or of a feature map of any size.

    Mixer's siblings use it. Unlike `ChannelMixing`, it computes the erf form of GELU, accepts any number of axes before
    the channels, and can change the number of channels.

    Args:
        mlp_dim: Hidden units.
        output_dim: Output channels; None keeps their number.
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
        super().__init__(mlp_dim, dropout, **kwargs)
        self.output_dim = None if output_dim is None else positive_integer("output_dim", output_dim)

    def build(self, input_shape):
        channels = input_shape[-1]
        dense_0 = self._sublayer(small_dense, self.mlp_dim, name="Dense_0", kind=ActivatedDense, activation=gelu_erf)
        dense_1 = self._sublayer(small_dense, self.output_dim or channels, name="Dense_1")
        self._build_mlp(dense_0, dense_1, (None, channels), (None, self.mlp_dim))

    def call(self, inputs, training=None):
        return restored(inputs, self._mlp(as_rows(inputs), training))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.output_dim or input_shape[-1])
