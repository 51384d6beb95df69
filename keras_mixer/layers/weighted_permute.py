"""Vision Permutator's spatial mixing: height, width and channels apart, re-weighted."""

import keras
from keras import ops

from keras_mixer.layers.checks import positive_integer
from keras_mixer.layers.reweighted_mixing import ReweightedMixing
from keras_mixer.layers.token_axes import LineAxes


@keras.saving.register_keras_serializable(package="keras_mixer")
class WeightedPermuteMLP(ReweightedMixing):
    """Mixes height, width and channels by a linear map each, and sums them with a softmax of the image's own.

    The channels fall into `segment_dim` segments. The height map takes, for each column and segment, all rows and the
    segment's channels at once to as many values; the width map likewise. Section 3.2 and 3.3 of Vision Permutator
    (Hou et al., 2021, arXiv 2106.12368), where `segment_dim` is the height and width of the feature map; here it may
    be any divisor of the channels, so that other image sizes work.

    Args:
        segment_dim: Number of segments.

    Input and output shape: `(batch, height, width, channels)`, static but for the batch.

    Raises:
        ValueError: If the segments do not divide the channels, or the input's size is not static.

    Example:
        >>> keras_mixer.layers.WeightedPermuteMLP(segment_dim=8)(keras.ops.ones((2, 8, 8, 16))).shape
        (2, 8, 8, 16)
    """

    def __init__(self, segment_dim: int, **kwargs):
        super().__init__(**kwargs)
        self.segment_dim = positive_integer("segment_dim", segment_dim)

    @property
    def line_axes(self) -> LineAxes:
        """Channels of a place in the weights over a line, see `keras_mixer.layers.token_axes`."""
        return {"height/kernel": self._segment, "width/kernel": self._segment}

    def _build_spatial(self, input_shape):
        if None in input_shape[1:]:
            raise ValueError(
                "WeightedPermuteMLP needs a feature map of static size, for its weights depend on it, but got "
                f"{tuple(input_shape)}. Give the model a static image size."
            )
        _, self._rows, self._columns, channels = input_shape
        if channels % self.segment_dim:
            raise ValueError(f"`segment_dim` must divide the {channels} channels, but got {self.segment_dim}.")
        self._segment = channels // self.segment_dim  # channels of a segment
        dense = {
            "use_bias": False,
            "kernel_initializer": keras.initializers.TruncatedNormal(stddev=0.02),
            "dtype": self.dtype_policy,
        }
        tall, wide = self._rows * self._segment, self._columns * self._segment
        self.height = keras.layers.Dense(tall, name="height", **dense)
        self.width = keras.layers.Dense(wide, name="width", **dense)
        self.height.build((None, tall))
        self.width.build((None, wide))

    def _mix_first(self, inputs):
        # Four axes suffice, which every runtime transposes fast: columns and segments go as one.
        strips = ops.reshape(inputs, (-1, self._rows, self._columns * self.segment_dim, self._segment))
        return self._mix(strips, self.height, inputs.shape)

    def _mix_second(self, inputs):
        strips = ops.reshape(inputs, (-1, self._columns, self.segment_dim, self._segment))
        return self._mix(strips, self.width, inputs.shape)

    def _mix(self, strips, dense, shape):
        """Maps axes 1 and 3 of `strips` together, for each entry of the others."""
        _, along, others, segment = strips.shape
        rows = ops.reshape(ops.transpose(strips, (0, 2, 1, 3)), (-1, along * segment))
        mixed = ops.reshape(dense(rows), (-1, others, along, segment))
        return ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (-1, *shape[1:]))

    def get_config(self):
        return {**super().get_config(), "segment_dim": self.segment_dim}
