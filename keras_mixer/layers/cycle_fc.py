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
    deformable convolution. The offsets are whole pixels and the same everywhere: here it is a shift of each channel,
    then a product over channels.

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
        taps = np.equal.outer(np.arange(-half, half + 1), self._offsets)  # (reach, channels)
        height, width = (self.reach, 1) if self.axis == 1 else (1, self.reach)
        self._taps = taps.reshape(height, width, channels, 1).astype("float32")

    def call(self, inputs):
        outputs = ops.matmul(as_rows(self._shifted(inputs)), self.kernel) + self.bias
        return like(inputs, outputs)

    def _shifted(self, inputs):
        """Reads every channel at its offset, in the form that the backend is fastest at."""
        forms = {"jax": self._selected, "torch": self._written}
        return forms.get(keras.backend.backend(), self._convolved)(inputs)

    def _convolved(self, inputs):
        """By a depthwise kernel that is 1 at the offset and 0 elsewhere.

        TensorFlow and LiteRT shift all channels by it in one pass over the map, forwards and backwards.
        """
        return ops.depthwise_conv(
            inputs, ops.cast(self._taps, inputs.dtype), padding="same", data_format="channels_last"
        )

    def _selected(self, inputs):
        """By a select between shifted views, which XLA fuses; its depthwise convolution is slow on a CPU."""
        shifted = inputs
        for offset in set(self._offsets.tolist()) - {0}:
            outside = ops.zeros_like(self._part(inputs, slice(abs(offset))))  # no longer than the map
            if offset > 0:
                parts = (self._part(inputs, slice(offset, None)), outside)
            else:
                parts = (outside, self._part(inputs, slice(offset)))
            shifted = ops.where(self._offsets == offset, ops.concatenate(parts, axis=self.axis), shifted)
        return shifted

    def _written(self, inputs):
        """By writing the channels of each offset into a map of zeros, which moves every value once."""
        shifted, length = ops.zeros_like(inputs), inputs.shape[self.axis]
        for first, offset in enumerate(self._offsets[: self.reach].tolist()):
            ahead, behind = max(offset, 0), max(-offset, 0)
            inside = max(length - ahead - behind, 0)
            channels = slice(first, None, self.reach)
            target = self._part(shifted, slice(behind, behind + inside))
            target[..., channels] = self._part(inputs, slice(ahead, ahead + inside))[..., channels]
        return shifted

    def _part(self, maps, rows: slice):
        return maps[(slice(None),) * self.axis + (rows,)]

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "axis": self.axis, "reach": self.reach}
