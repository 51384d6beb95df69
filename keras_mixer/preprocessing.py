"""How an image becomes the input of a model: one record for published weights, model cards and recipes."""

import dataclasses
import sys
from numbers import Integral

import numpy as np

from keras_mixer.fields import JsonRecord

RESIZE_MODES = ("crop", "squash", "direct")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "area", "lanczos3", "lanczos5")
# Length of an image, as a multiple of its crop with margin, beyond which only the middle is read.
LONGEST = 4
# Pixels that the widest kernel, lanczos5, reads on each side, counted in the coarser of the two images.
REACH = 5
# Number of values in a half-resized image beyond which the width is resized first.
UNFINISHED_LIMIT = 2**24


@dataclasses.dataclass(frozen=True)
class Preprocessing(JsonRecord):
    """How images become the inputs of a model.

    `keras_mixer.data.pixels` implements this with TensorFlow. `preprocess_input` scales pixels on any backend.

    Args:
        image_size: Height and width of the model's input, in pixels.
        channels: Channels of the model's input. Image files can be decoded to 3 (RGB) or 1 (grey).
        resize: How a photograph is brought to `image_size`. "crop" scales the image, keeping its aspect ratio, and cuts
            out the centre (section 3 of the paper): for a square input, the shorter side becomes
            `image_size / crop_share`. "squash" stretches the image to `image_size / crop_share` and cuts out the
            centre. "direct" stretches the image to `image_size`.
        interpolation: A method of `tf.image.resize`. It is always antialiased.
        mean: Subtracted from pixels on the [0, 1] scale: one number, or one per channel.
        std: Divides the difference: one number, or one per channel. A mean and std of 0.5 give [-1, 1]; 0 and 1 give
            [0, 1].
        crop_share: Share of the resized side that the centre crop keeps.

    Raises:
        ValueError: If a value is out of range; the message names it.

    Example:
        >>> keras_mixer.data.Preprocessing(image_size=(32, 32)).input_shape
        (32, 32, 3)
    """

    image_size: tuple[int, int] = (224, 224)
    channels: int = 3
    resize: str = "crop"
    interpolation: str = "bilinear"
    mean: float | tuple[float, ...] = 0.5
    std: float | tuple[float, ...] = 0.5
    crop_share: float = 224 / 256

    def __post_init__(self):
        size = (self.image_size,) * 2 if isinstance(self.image_size, Integral) else tuple(self.image_size)
        if len(size) != 2 or not all(isinstance(side, Integral) and side >= 1 for side in size):
            raise ValueError(f"`image_size` is a pair of pixels (height, width), but got {self.image_size!r}.")
        object.__setattr__(self, "image_size", tuple(map(int, size)))
        if not isinstance(self.channels, Integral) or self.channels < 1:
            raise ValueError(f"`channels` is a number of at least 1, but got {self.channels!r}.")
        object.__setattr__(self, "channels", int(self.channels))
        if self.resize not in RESIZE_MODES:
            raise ValueError(f"`resize` is one of {', '.join(RESIZE_MODES)}, but got {self.resize!r}.")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"`interpolation` is one of {', '.join(INTERPOLATIONS)}, but got {self.interpolation!r}.")
        for name in ("mean", "std"):
            value = getattr(self, name)
            value = tuple(map(float, value)) if np.ndim(value) else float(value)  # NumPy's cannot be written as JSON
            object.__setattr__(self, name, value)
            if isinstance(value, tuple) and len(value) != self.channels:
                raise ValueError(f"`{name}` is one number or one per channel ({self.channels}), but got {value!r}.")
        if any(value <= 0 for value in (self.std if isinstance(self.std, tuple) else (self.std,))):
            raise ValueError(f"`std` divides the pixels and must be positive, but got {self.std!r}.")
        if not 0.0 < self.crop_share <= 1.0:
            raise ValueError(f"`crop_share` is a share, 0 < crop_share <= 1, but got {self.crop_share!r}.")

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """The model's input shape (height, width, channels)."""
        return (*self.image_size, self.channels)

    def __call__(self, encoded):
        """Turns the bytes of an image file into the model's input. Needs TensorFlow.

        Args:
            encoded: Bytes of a JPEG, PNG, BMP or GIF, as a scalar string tensor. Its EXIF orientation is applied.

        Returns:
            A float32 tensor `(height, width, channels)`.
        """
        from keras_mixer.data import pixels  # TensorFlow is imported here

        return pixels.preprocess(encoded, self)


def preprocess_input(images, preprocessing: Preprocessing | None = None):
    """Scales pixels from [0, 255] to the range that the weights were trained on.

    Args:
        images: Array or tensor of any shape, integer or floating, with values in [0, 255]. If `preprocessing` has one
            mean per channel, the last axis holds the channels.
        preprocessing: The preprocessing of the weights, such as `model.preprocessing`. None scales to [-1, 1].

    Returns:
        Values of the same shape. Arrays, lists and numbers become a float32 NumPy array. TensorFlow tensors remain
        TensorFlow tensors, so that the function works in `tf.data.Dataset.map` on every backend. Other tensors become
        tensors of the backend.

    Example:
        >>> keras_mixer.preprocess_input(np.array([0, 255]))
        array([-1.,  1.], dtype=float32)
    """
    preprocessing = preprocessing or Preprocessing()
    mean, std = (np.asarray(value, "float32") for value in (preprocessing.mean, preprocessing.std))
    if isinstance(images, (np.ndarray, np.generic, list, tuple, int, float)):
        scaled = np.asarray(images, "float32") / np.float32(255.0)
    elif type(images).__module__.startswith("tensorflow."):
        scaled = sys.modules["tensorflow"].cast(images, "float32") / 255.0
    else:
        from keras import ops

        mean, std = ops.convert_to_tensor(mean), ops.convert_to_tensor(std)
        scaled = ops.cast(images, "float32") / 255.0
    return (scaled - mean) / std
