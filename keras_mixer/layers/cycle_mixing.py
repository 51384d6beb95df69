"""CycleMLP's spatial mixing: two CycleFC and a channel map, re-weighted."""

import keras

from keras_mixer.layers.cycle_fc import CycleFC
from keras_mixer.layers.reweighted_mixing import ReweightedMixing


@keras.saving.register_keras_serializable(package="keras_mixer")
class CycleMixing(ReweightedMixing):
    """Mixes along width and height by `CycleFC`, and channels by a linear map; sums with a softmax of the image's own.

    Figure 3 of CycleMLP (arXiv 2107.10224). No weight depends on the size of the feature map.

    Input and output shape: `(batch, height, width, channels)`; height and width may be unknown.

    Raises:
        ValueError: If the input has another rank.

    Example:
        >>> keras_mixer.layers.CycleMixing()(keras.ops.ones((2, 7, 9, 16))).shape
        (2, 7, 9, 16)
    """

    def _build_spatial(self, input_shape):
        # The authors call the one along the width "h", and so does their softmax's first place.
        self.cycle_width = CycleFC(axis=2, name="cycle_width", dtype=self.dtype_policy)
        self.cycle_height = CycleFC(axis=1, name="cycle_height", dtype=self.dtype_policy)
        self.cycle_width.build(input_shape)
        self.cycle_height.build(input_shape)

    def _mix_first(self, inputs):
        return self.cycle_width(inputs)

    def _mix_second(self, inputs):
        return self.cycle_height(inputs)
