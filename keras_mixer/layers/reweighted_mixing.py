"""Mixing along height, width and channels apart, then summed with weights that depend on the image."""

import keras
from keras import ops

from keras_mixer.layers.channel_mlp import ChannelMLP
from keras_mixer.layers.rows import as_rows, like

_REDUCTION = 4  # channels per hidden unit of the MLP that finds the weights, in both papers' code


class ReweightedMixing(keras.layers.Layer):
    """Three branches, `P(sum_i softmax_i(MLP(mean(sum_i X_i))) * X_i)`; a subclass gives the two spatial ones.

    Split attention (ResNeSt, arXiv 2004.08955) as Vision Permutator and CycleMLP take it over.
    """

    def build(self, input_shape):
        if len(input_shape) != 4:
            raise ValueError(
                f"{type(self).__name__} expects a feature map of shape (batch, height, width, channels), "
                f"but got {tuple(input_shape)}."
            )
        channels = input_shape[-1]
        dense = {
            "kernel_initializer": keras.initializers.TruncatedNormal(stddev=0.02),
            "dtype": self.dtype_policy,
        }
        self._build_spatial(input_shape)
        self.channels = keras.layers.Dense(channels, use_bias=False, name="channels", **dense)
        self.reweight = ChannelMLP(
            max(1, channels // _REDUCTION), output_dim=3 * channels, name="reweight", dtype=self.dtype_policy
        )
        self.projection = keras.layers.Dense(channels, name="projection", **dense)
        for layer in (self.channels, self.reweight, self.projection):
            layer.build((None, channels))

    def _build_spatial(self, input_shape) -> None:
        """Builds the sublayers of the two spatial branches."""
        raise NotImplementedError

    def _mix_first(self, inputs):
        raise NotImplementedError

    def _mix_second(self, inputs):
        raise NotImplementedError

    def call(self, inputs):
        branches = (
            self._mix_first(inputs),
            self._mix_second(inputs),
            like(inputs, self.channels(as_rows(inputs))),
        )
        pooled = ops.mean(sum(branches), axis=(1, 2))  # (batch, channels)
        logits = ops.reshape(self.reweight(pooled), (-1, 1, 1, inputs.shape[-1], 3))
        weights = ops.softmax(logits, axis=-1)
        mixed = sum(branch * weights[..., index] for index, branch in enumerate(branches))
        return like(inputs, self.projection(as_rows(mixed)))

    def compute_output_shape(self, input_shape):
        return input_shape
