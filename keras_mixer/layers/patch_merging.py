"""The transition between two stages of a Vision Permutator."""

import keras

from keras_mixer.layers.checks import positive_integer

# Arguments of the convolution that follow from this layer's own.
_DERIVED = ("filters", "kernel_size", "strides", "data_format", "kernel_initializer")


@keras.saving.register_keras_serializable(package="keras_mixer")
class PatchMerging(keras.layers.Conv2D):
    """Joins `factor x factor` places of a feature map to one, by a linear map of all their channels.

    Every place must belong to a patch: a convolution alone would leave out the last row of an odd map unsaid.

    Args:
        hidden_dim: Channels of a place that comes out.
        factor: Places along each side of a patch.
        **kwargs: Further arguments of `keras.layers.Conv2D`, as `use_bias`.

    Input shape: `(batch, rows, columns, channels)`.
    Output shape: `(batch, rows / factor, columns / factor, hidden_dim)`.

    Raises:
        ValueError: If an argument is out of range, or `factor` divides the rows or columns of the input not.

    Example:
        >>> keras_mixer.layers.PatchMerging(hidden_dim=32, factor=2)(keras.ops.ones((2, 8, 6, 16))).shape
        (2, 4, 3, 32)
    """

    def __init__(self, hidden_dim: int, factor: int, **kwargs):
        self.hidden_dim = positive_integer("hidden_dim", hidden_dim)
        self.factor = positive_integer("factor", factor)
        super().__init__(
            self.hidden_dim,
            self.factor,
            strides=self.factor,
            data_format="channels_last",
            kernel_initializer="lecun_normal",
            **kwargs,
        )

    def build(self, input_shape):
        rows, columns = input_shape[1:3]
        if any(side is not None and side % self.factor for side in (rows, columns)):
            raise ValueError(
                f"A feature map of {rows} x {columns} places has no whole patches of {self.factor} x {self.factor}, "
                f"which the transition {self.name!r} joins to one. Choose an image whose sides are multiples of the "
                f"patch size times {self.factor} for each such transition."
            )
        super().build(input_shape)

    def get_config(self):
        given = {key: value for key, value in super().get_config().items() if key not in _DERIVED}
        return {**given, "hidden_dim": self.hidden_dim, "factor": self.factor}
