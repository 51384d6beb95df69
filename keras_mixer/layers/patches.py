"""Layers that turn an image into tokens or a feature map, and a feature map into a smaller one."""

import json

import keras
from keras import ops

from keras_mixer import fields
from keras_mixer.layers.base import PlainLayer
from keras_mixer.preprocessing import Preprocessing
from keras_mixer.shapes import pair_of_positive_integers, positive_integer


class ImageReader(keras.layers.Layer):
    """The first layer of a model. Its configuration holds the preprocessing of `keras_mixer.models.ImageModel`."""

    def __init__(self, *arguments, preprocessing: dict | None = None, **kwargs):
        super().__init__(*arguments, **kwargs)
        self._preprocessing = None if preprocessing is None else fields.read(Preprocessing, preprocessing)

    def get_config(self):
        config = super().get_config()
        if self._preprocessing is not None:
            config["preprocessing"] = json.loads(self._preprocessing.to_json())
        return config


@keras.saving.register_keras_serializable(package="keras_mixer")
class StemConvolution(ImageReader, keras.layers.Conv2D):
    """The `keras.layers.Conv2D` that ConvMixer and CycleMLP apply to their images.

    Example:
        >>> keras_mixer.layers.StemConvolution(32, kernel_size=7, strides=7)(keras.ops.ones((2, 56, 42, 3))).shape
        (2, 8, 6, 32)
    """


@keras.saving.register_keras_serializable(package="keras_mixer")
class PatchEmbedding(ImageReader, PlainLayer):
    """Cuts an image into non-overlapping patches and projects each linearly to `hidden_dim` channels.

    It equals a convolution whose kernel size and stride are the patch size, but computes one matrix product. Tokens are
    in raster order, row by row from the top left. The attribute `grid` holds the numbers of rows and columns of patches
    once the layer is built. The paper calls this layer "per-patch fully-connected" (section 2).

    Args:
        hidden_dim: Channels of a token, C in the paper.
        patch_size: Pixels of a patch, an integer or a pair (height, width); P in the paper.

    Input shape: `(batch, height, width, image_channels)`.
    Output shape: `(batch, tokens, hidden_dim)` with `tokens = (height / patch height) * (width / patch width)`.

    Raises:
        ValueError: If an argument is not positive, the image size is not static, or the patch does not divide it.

    Example:
        >>> keras_mixer.layers.PatchEmbedding(hidden_dim=32, patch_size=8)(keras.ops.ones((2, 64, 48, 3))).shape
        (2, 48, 32)
    """

    def __init__(self, hidden_dim: int, patch_size: int | tuple[int, int], **kwargs):
        super().__init__(**kwargs)
        self.hidden_dim = positive_integer("hidden_dim", hidden_dim)
        self.patch_size = pair_of_positive_integers("patch_size", patch_size)

    def build(self, input_shape):
        self.grid = self._grid_of(input_shape)  # rows and columns of patches
        self._fix(input_shape)
        self.kernel = self.add_weight(
            name="kernel",
            shape=(*self.patch_size, input_shape[-1], self.hidden_dim),
            initializer="lecun_normal",
        )
        self.bias = self.add_weight(name="bias", shape=(self.hidden_dim,), initializer="zeros")

    def call(self, images):
        (rows, columns), (patch_height, patch_width) = self.grid, self.patch_size
        image_channels = self.kernel.shape[2]
        # Only two of the six axes are swapped. Transposing four axes is enough, and every runtime does that fast.
        strips = ops.reshape(images, (-1, patch_height, columns, patch_width * image_channels))
        patches = ops.transpose(strips, (0, 2, 1, 3))  # (batch * rows, columns, patch_height, patch_width * channels)
        patches = ops.reshape(patches, (-1, patch_height * patch_width * image_channels))
        kernel = ops.reshape(self.kernel, (patches.shape[-1], self.hidden_dim))
        tokens = ops.add(ops.matmul(patches, kernel), self.bias)
        return ops.reshape(tokens, (-1, rows * columns, self.hidden_dim))

    def compute_output_shape(self, input_shape):
        rows, columns = self._grid_of(input_shape)
        return (input_shape[0], rows * columns, self.hidden_dim)

    def _grid_of(self, input_shape) -> tuple[int, int]:
        if len(input_shape) != 4 or None in input_shape[1:]:
            raise ValueError(
                "Images must have one static size (batch, height, width, channels), because the number of patches "
                f"determines the shapes of the weights; got {tuple(input_shape)}. "
                "Pass `input_shape=(height, width, channels)`."
            )
        height, width = input_shape[1:3]
        patch_height, patch_width = self.patch_size
        if height % patch_height or width % patch_width:
            fits = [
                max(1, round(side / patch)) * patch for side, patch in ((height, patch_height), (width, patch_width))
            ]
            first = " If the channels are first here, put them last." if height in (1, 3) else ""
            raise ValueError(
                f"The image size must be a multiple of the patch size, but {height} x {width} pixels cannot be divided "
                f"into patches of {patch_height} x {patch_width}. The nearest size that works is {fits[0]} x "
                f"{fits[1]}.{first}"
            )
        return height // patch_height, width // patch_width


@keras.saving.register_keras_serializable(package="keras_mixer")
class PatchMap(PatchEmbedding):
    """A `PatchEmbedding` whose output keeps the rows and columns of the patches. The arguments are the same.

    Input shape: `(batch, height, width, image_channels)`.
    Output shape: `(batch, rows, columns, hidden_dim)`.

    Example:
        >>> keras_mixer.layers.PatchMap(hidden_dim=32, patch_size=8)(keras.ops.ones((2, 64, 48, 3))).shape
        (2, 8, 6, 32)
    """

    def call(self, images):
        return ops.reshape(super().call(images), (-1, *self.grid, self.hidden_dim))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self._grid_of(input_shape), self.hidden_dim)


# Arguments of the convolution that follow from this layer's own.
_DERIVED = ("filters", "kernel_size", "strides", "data_format", "kernel_initializer")


@keras.saving.register_keras_serializable(package="keras_mixer")
class PatchMerging(keras.layers.Conv2D):
    """Merges `factor x factor` positions of a feature map into one, by a linear map of all their channels.

    Vision Permutator uses it between two stages. A plain convolution would silently ignore a last row or column that
    does not fill a patch; this layer raises an error.

    Args:
        hidden_dim: Channels of the output.
        factor: Number of rows, and of columns, that are merged into one.
        **kwargs: Further arguments of `keras.layers.Conv2D`, such as `use_bias`.

    Input shape: `(batch, rows, columns, channels)`.
    Output shape: `(batch, rows / factor, columns / factor, hidden_dim)`.

    Raises:
        ValueError: If an argument is out of range, or `factor` does not divide the rows and columns of the input.

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
        self._check_size(input_shape)
        super().build(input_shape)

    def call(self, inputs):
        self._check_size(inputs.shape)
        return super().call(inputs)

    def _check_size(self, input_shape) -> None:
        rows, columns = input_shape[1:3]
        if any(side is not None and side % self.factor for side in (rows, columns)):
            raise ValueError(
                f"The layer {self.name!r} merges {self.factor} x {self.factor} positions of a feature map into one, "
                f"but {rows} x {columns} positions cannot be divided that way. Choose an image whose sides are "
                f"multiples of the patch size times {self.factor} for each such layer."
            )

    def get_config(self):
        given = {key: value for key, value in super().get_config().items() if key not in _DERIVED}
        return {**given, "hidden_dim": self.hidden_dim, "factor": self.factor}
