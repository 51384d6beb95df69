"""CycleFC: a product over channels, each of which is read from a pixel of its own along one axis."""

import keras
import numpy as np
from keras import ops

from keras_mixer.layers.checks import positive_integer
from keras_mixer.layers.rows import as_rows, like


@keras.saving.register_keras_serializable(package="keras_mixer")
class CycleFC(keras.layers.Layer):
    """Maps channels to channels, where channel `c` is read `(c + reach // 2) % reach - reach // 2` pixels away.

    So it sees `reach` pixels along one axis at the cost of a single pixel, at any image size; pixels outside of the
    image are zero. Section 3.1 of CycleMLP (Chen et al., 2021, arXiv 2107.10224), whose authors run it as a
    deformable convolution. The offsets are whole pixels and the same everywhere: here it is one select between
    shifted views, then a product over channels.

    Args:
        axis: Axis to shift along: 1 for height, 2 for width.
        reach: Pixels that it spans, odd; the pseudo-kernel's size in the paper.

    Input and output shape: `(batch, height, width, channels)`; height and width may be unknown.

    Raises:
        ValueError: If an argument is out of range or the input has another rank.

    Example:
        >>> keras_mixer.layers.CycleFC(axis=2)(keras.ops.ones((2, 7, 9, 16))).shape
        (2, 7, 9, 16)
    """

    def __init__(self, axis: int, reach: int = 3, **kwargs):
        super().__init__(**kwargs)
        if axis not in (1, 2):
            raise ValueError(f"`axis` must be 1 (height) or 2 (width), but got {axis!r}.")
        if positive_integer("reach", reach) % 2 == 0:
            raise ValueError(f"`reach` must be odd, for it is centred on the pixel written, but got {reach!r}.")
        self.axis = axis
        self.reach = reach

    def build(self, input_shape):
        if len(input_shape) != 4:
            raise ValueError(
                "CycleFC expects a feature map of shape (batch, height, width, channels), "
                f"but got {tuple(input_shape)}."
            )
        channels = input_shape[-1]
        self.kernel = self.add_weight(
            name="kernel", shape=(channels, channels), initializer=keras.initializers.TruncatedNormal(stddev=0.02)
        )
        self.bias = self.add_weight(name="bias", shape=(channels,), initializer="zeros")
        half = self.reach // 2
        self._offsets = (np.arange(channels) + half) % self.reach - half

    def call(self, inputs):
        outputs = ops.matmul(as_rows(self._shifted(inputs)), self.kernel) + self.bias
        return like(inputs, outputs)

    def _shifted(self, inputs):
        """Reads every channel at its offset."""
        half = self.reach // 2
        padding = [(half, half) if axis == self.axis else (0, 0) for axis in range(4)]
        padded = ops.pad(inputs, padding)
        length = ops.shape(inputs)[self.axis]
        shifted = inputs
        for offset in range(-half, half + 1):
            if offset != 0 and offset in self._offsets:
                view = [slice(None)] * 4
                view[self.axis] = slice(half + offset, half + offset + length)
                shifted = ops.where(self._offsets == offset, padded[tuple(view)], shifted)
        return shifted

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "axis": self.axis, "reach": self.reach}
