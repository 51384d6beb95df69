"""The stem of architectures that keep the image's two axes."""

import keras
from keras import ops

from keras_mixer.layers.patch_embedding import PatchEmbedding


@keras.saving.register_keras_serializable(package="keras_mixer")
class PatchMap(PatchEmbedding):
    """Cuts images into patches and projects each, as `PatchEmbedding` does, but leaves them in their rows and columns.

    Input shape: `(batch, height, width, image_channels)`.
    Output shape: `(batch, rows, columns, hidden_dim)`.

    Raises:
        ValueError: As `PatchEmbedding`.

    Example:
        >>> keras_mixer.layers.PatchMap(hidden_dim=32, patch_size=8)(keras.ops.ones((2, 64, 48, 3))).shape
        (2, 8, 6, 32)
    """

    def call(self, images):
        return ops.reshape(super().call(images), (-1, *self.grid, self.hidden_dim))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self._grid_of(input_shape), self.hidden_dim)
