"""How Vision Permutator and CycleMLP mix: height, width and channels separately, then a weighted sum."""

import keras
import numpy as np
from keras import ops

from keras_mixer.layers.base import CompositeLayer, PlainLayer
from keras_mixer.layers.channel_mlp import ChannelMLP, as_rows, restored, small_dense
from keras_mixer.shapes import LineAxes, feature_map, positive_integer

_REDUCTION = 4  # channels per hidden unit of the MLP that computes the weights, in both papers' code


class ReweightedMixing(CompositeLayer):
    """Weights three branches by the image and sums them, `P(sum_i softmax_i(MLP(mean(sum_i X_i))) * X_i)`.

    One branch mixes channels. A subclass builds the two spatial branches in `_build_spatial` and computes them in
    `_mix_spatially`. Vision Permutator and CycleMLP take this from split attention (ResNeSt, arXiv 2004.08955).
    """

    def build(self, input_shape):
        channels = feature_map(type(self).__name__, input_shape)[-1]
        self._build_spatial(input_shape)
        self.channels = self._sublayer(small_dense, channels, name="channels", use_bias=False)
        hidden = max(1, channels // _REDUCTION)
        self.reweight = self._sublayer(ChannelMLP, hidden, output_dim=3 * channels, name="reweight")
        self.projection = self._sublayer(small_dense, channels, name="projection")
        for layer in (self.channels, self.reweight, self.projection):
            layer.build((None, channels))

    def call(self, inputs):
        branches = (*self._mix_spatially(inputs), restored(inputs, self.channels(as_rows(inputs))))
        pooled = ops.mean(sum(branches), axis=(1, 2))  # (batch, channels)
        logits = ops.reshape(self.reweight(pooled), (-1, 1, 1, inputs.shape[-1], 3))
        weights = ops.softmax(logits, axis=-1)
        mixed = sum(branch * weights[..., index] for index, branch in enumerate(branches))
        return restored(inputs, self.projection(as_rows(mixed)))


@keras.saving.register_keras_serializable(package="keras_mixer")
class WeightedPermuteMLP(ReweightedMixing):
    """Mixes height, width and channels by one linear map each, weights the three results by the image and sums them.

    The channels are divided into `segment_dim` segments. The height map reads all rows of one column in the channels of
    one segment, and returns as many values. The width map does the same with all columns of one row. See sections 3.2
    and 3.3 of Vision Permutator (Hou et al., 2021, arXiv 2106.12368). In the paper `segment_dim` equals the height and
    width of the feature map. Here it can be any divisor of the channels, so that other image sizes work.

    Args:
        segment_dim: Number of segments.

    Input and output shape: `(batch, height, width, channels)`, static except for the batch.

    Raises:
        ValueError: If `segment_dim` does not divide the channels, or the size of the input is not static.

    Example:
        >>> keras_mixer.layers.WeightedPermuteMLP(segment_dim=8)(keras.ops.ones((2, 8, 8, 16))).shape
        (2, 8, 8, 16)
    """

    def __init__(self, segment_dim: int, **kwargs):
        super().__init__(**kwargs)
        self.segment_dim = positive_integer("segment_dim", segment_dim)

    @property
    def line_axes(self) -> LineAxes:
        """Channels of one position in the weights over a row or column, see `keras_mixer.shapes`."""
        return {"height/kernel": self._segment, "width/kernel": self._segment}

    def _build_spatial(self, input_shape):
        if None in input_shape[1:]:
            raise ValueError(
                f"WeightedPermuteMLP needs a feature map of static size, but got {tuple(input_shape)}. "
                "Give the model a static image size."
            )
        self._fix(input_shape)
        _, self._rows, self._columns, channels = input_shape
        if channels % self.segment_dim:
            raise ValueError(f"`segment_dim` must divide the {channels} channels, but got {self.segment_dim}.")
        self._segment = channels // self.segment_dim  # channels of a segment
        tall, wide = self._rows * self._segment, self._columns * self._segment
        self.height = self._sublayer(small_dense, tall, name="height", use_bias=False)
        self.width = self._sublayer(small_dense, wide, name="width", use_bias=False)
        self.height.build((None, tall))
        self.width.build((None, wide))

    def _mix_spatially(self, inputs):
        # Columns and segments share an axis, so that only four axes are transposed, which every runtime does fast.
        tall = ops.reshape(inputs, (-1, self._rows, self._columns * self.segment_dim, self._segment))
        wide = ops.reshape(inputs, (-1, self._columns, self.segment_dim, self._segment))
        return self._mix(tall, self.height, inputs.shape), self._mix(wide, self.width, inputs.shape)

    def _mix(self, strips, dense, shape):
        """Applies `dense` to axes 1 and 3 of `strips` together, for each index of the other axes."""
        _, along, others, segment = strips.shape
        rows = ops.reshape(ops.transpose(strips, (0, 2, 1, 3)), (-1, along * segment))
        mixed = ops.reshape(dense(rows), (-1, others, along, segment))
        return ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (-1, *shape[1:]))


@keras.saving.register_keras_serializable(package="keras_mixer")
class CycleMixing(ReweightedMixing):
    """Mixes width and height by `CycleFC` and channels by a linear map, weights the results by the image and sums them.

    See figure 3 of CycleMLP (arXiv 2107.10224). The shapes of the weights do not depend on the size of the feature map.

    Input and output shape: `(batch, height, width, channels)`; height and width may be unknown.

    Raises:
        ValueError: If the input has another rank.

    Example:
        >>> keras_mixer.layers.CycleMixing()(keras.ops.ones((2, 7, 9, 16))).shape
        (2, 7, 9, 16)
    """

    def _build_spatial(self, input_shape):
        # The authors call the branch along the width "h". It is the first branch of their softmax.
        self.cycle_width = self._sublayer(CycleFC, axis=2, name="cycle_width")
        self.cycle_height = self._sublayer(CycleFC, axis=1, name="cycle_height")
        self.cycle_width.build(input_shape)
        self.cycle_height.build(input_shape)

    def _mix_spatially(self, inputs):
        return self.cycle_width(inputs), self.cycle_height(inputs)


@keras.saving.register_keras_serializable(package="keras_mixer")
class CycleFC(PlainLayer):
    """Reads channel `c` from `(c + reach // 2) % reach - reach // 2` pixels away, then maps channels linearly.

    It covers `reach` pixels along one axis at the cost of a single pixel. Pixels outside the image are zero. See
    section 3.1 of CycleMLP (Chen et al., 2021, arXiv 2107.10224). The authors run it as a deformable convolution.

    Args:
        axis: Axis to shift along: 1 for height, 2 for width.
        reach: Odd number of pixels that it spans; the size of the pseudo-kernel in the paper.

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
        self.reach = positive_integer("reach", reach)
        if self.reach % 2 == 0:
            raise ValueError(f"`reach` must be odd, because it is centred on a pixel, but got {reach!r}.")
        self.axis = int(axis)

    def build(self, input_shape):
        channels = feature_map("CycleFC", input_shape)[-1]
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
        # The fastest way to read each channel at its offset differs between backends.
        shift = {"jax": self._selected, "torch": self._interleaved}.get(keras.backend.backend(), self._convolved)
        return restored(inputs, ops.matmul(as_rows(shift(inputs)), self.kernel) + self.bias)

    def _convolved(self, inputs):
        """Shifts by a depthwise kernel that is 1 at the offset and 0 elsewhere: one pass in TensorFlow and LiteRT."""
        return ops.depthwise_conv(
            inputs, ops.cast(self._taps, inputs.dtype), padding="same", data_format="channels_last"
        )

    def _selected(self, inputs):
        """Selects between shifted views. XLA fuses them, but its depthwise convolution is slow on a CPU."""
        shifted = inputs
        for offset in set(self._offsets.tolist()) - {0}:
            outside = ops.zeros_like(self._part(inputs, slice(abs(offset))))  # no longer than the map
            if offset > 0:
                parts = (self._part(inputs, slice(offset, None)), outside)
            else:
                parts = (outside, self._part(inputs, slice(offset)))
            shifted = ops.where(self._offsets == offset, ops.concatenate(parts, axis=self.axis), shifted)
        return shifted

    def _interleaved(self, inputs):
        """Stacks the shifted channels of each offset, which moves every value twice.

        Writing into views would move it once, but PyTorch's exporter to ONNX drops such writes.
        """
        half, channels, length = self.reach // 2, inputs.shape[-1], inputs.shape[self.axis]
        widths = [(0, 0), (0, 0), (0, 0), (0, -channels % self.reach)]
        widths[self.axis] = (half, half)
        padded, views = ops.pad(inputs, widths), []
        for first in range(self.reach):
            start = (first + half) % self.reach  # half + offset
            views.append(self._part(padded, slice(start, start + length))[..., first :: self.reach])
        shape = (-1, *inputs.shape[1:3], padded.shape[-1])
        return ops.reshape(ops.stack(views, axis=-1), shape)[..., :channels]

    def _part(self, maps, rows: slice):
        return maps[(slice(None),) * self.axis + (rows,)]
