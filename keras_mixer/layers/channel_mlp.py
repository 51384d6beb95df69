"""The MLP over channels that the siblings of Mixer share."""

import keras

from keras_mixer.layers.checks import positive_integer, rate_below_one
from keras_mixer.layers.gelu import gelu_erf
from keras_mixer.layers.rows import as_rows, like


@keras.saving.register_keras_serializable(package="keras_mixer")
class ChannelMLP(keras.layers.Layer):
    """Dense, GELU, Dense along the last axis of tokens or of a feature map of any size.

    It differs from `ChannelMixing` in what the siblings' published weights need: the erf form of GELU, any axes
    before the channels, and any number of output channels.

    Args:
        mlp_dim: Hidden units.
        output_dim: Output channels; None for those of the input.
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
        # Normal kernels of deviation 0.02 and zero biases, as in the code of ResMLP, Vision Permutator and CycleMLP.
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
        return like(inputs, outputs)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.output_dim or input_shape[-1])

    def get_config(self):
        return {
            **super().get_config(),
            "mlp_dim": self.mlp_dim,
            "output_dim": self.output_dim,
            "dropout": self.dropout,
        }
