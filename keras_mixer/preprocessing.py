"""How an image becomes the input of a model: one record for published weights, model cards and recipes."""

import dataclasses
import math
import sys
import warnings
from typing import Any

import numpy as np

from keras_mixer.extras import require
from keras_mixer.fields import JsonRecord
from keras_mixer.shapes import integer, is_finite

RESIZE_MODES = ("crop", "squash", "direct")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "area", "lanczos3", "lanczos5")
# Length of an image, as a multiple of its crop with margin, beyond which only the middle is read.
LONGEST = 4
# Pixels that the widest kernel, lanczos5, reads on each side, counted in the coarser of the two images.
REACH = 5
# How far interpolation may lead pixels beyond [0, 255].
OVERSHOOT = 128
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
        given: Any = self.image_size
        size = tuple(map(integer, given if np.iterable(given) else (given, given)))
        if len(size) != 2 or not all(side and side >= 1 for side in size):
            raise ValueError(f"`image_size` is a pair of pixels (height, width), but got {self.image_size!r}.")
        object.__setattr__(self, "image_size", size)
        channels = integer(self.channels)
        if channels is None or channels < 1:
            raise ValueError(f"`channels` is a number of at least 1, but got {self.channels!r}.")
        object.__setattr__(self, "channels", channels)
        if self.resize not in RESIZE_MODES:
            raise ValueError(f"`resize` is one of {', '.join(RESIZE_MODES)}, but got {self.resize!r}.")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"`interpolation` is one of {', '.join(INTERPOLATIONS)}, but got {self.interpolation!r}.")
        for name in ("mean", "std"):
            value = getattr(self, name)
            numbers = _numbers(value)
            if numbers is None or (isinstance(numbers, tuple) and len(numbers) != self.channels):
                raise ValueError(f"`{name}` is one number or one per channel ({self.channels}), but got {value!r}.")
            object.__setattr__(self, name, numbers)
        if any(value <= 0 for value in (self.std if isinstance(self.std, tuple) else (self.std,))):
            raise ValueError(f"`std` divides the pixels and must be positive, but got {self.std!r}.")
        if not is_finite(self.crop_share) or not 0.0 < self.crop_share <= 1.0:
            raise ValueError(f"`crop_share` is a share, 0 < crop_share <= 1, but got {self.crop_share!r}.")
        object.__setattr__(self, "crop_share", float(self.crop_share))

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
        require("tensorflow", extra="tensorflow", purpose="Preprocessing of image files")
        from keras_mixer.data import pixels

        return pixels.preprocess(encoded, self)


def _numbers(value) -> float | tuple[float, ...] | None:
    """Returns finite numbers as Python's own, which can be written as JSON; None for anything else."""
    try:
        array = np.asarray(value)
    except ValueError:
        return None
    if array.ndim > 1 or array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        return None
    return tuple(map(float, array)) if array.ndim else float(array)


def preprocess_input(images, preprocessing: Preprocessing | None = None):
    """Scales pixels from [0, 255] to the range that the weights were trained on.

    Args:
        images: Array or tensor of any shape, integer or floating, with values in [0, 255]. If `preprocessing` has one
            mean or std per channel, the last axis holds the channels, whatever `keras.config.image_data_format` says.
        preprocessing: The preprocessing of the weights, such as `model.preprocessing`. None scales to [-1, 1].

    Returns:
        Values of the same shape. Arrays, lists and numbers become a float32 NumPy array. TensorFlow tensors remain
        TensorFlow tensors, so that the function works in `tf.data.Dataset.map` on every backend. Other tensors become
        tensors of the backend.

    Raises:
        ValueError: If `images` are not numbers, or have another number of channels than `preprocessing`. Also if they
            are an array with values that are not finite or far outside [0, 255]. An array of images that are already
            scaled gives a warning. The values of tensors are not checked.

    Example:
        >>> keras_mixer.preprocess_input(np.array([0, 255]))
        array([-1.,  1.], dtype=float32)
    """
    preprocessing = Preprocessing() if preprocessing is None else preprocessing
    if not isinstance(preprocessing, Preprocessing):
        raise ValueError(
            "`preprocessing` must be a `keras_mixer.data.Preprocessing`, such as `model.preprocessing`, or None, but "
            f"got {preprocessing!r}."
        )
    mean, std = (np.asarray(value, "float32") for value in (preprocessing.mean, preprocessing.std))
    if isinstance(images, np.ndarray | np.generic) or not hasattr(images, "dtype"):
        array = _pixel_array(images)
        _check_numbers(array.shape, array.dtype.name, mean, std)
        scaled = array.astype("float32") / np.float32(255.0)
    elif type(images).__module__.startswith("tensorflow."):
        _check_numbers(images.shape, images.dtype.name, mean, std)
        scaled = sys.modules["tensorflow"].cast(images, "float32") / 255.0
    else:
        from keras import backend, ops

        _check_numbers(images.shape, backend.standardize_dtype(images.dtype), mean, std)
        mean, std = ops.convert_to_tensor(mean), ops.convert_to_tensor(std)
        scaled = ops.cast(images, "float32") / 255.0
    return (scaled - mean) / std


def _pixel_array(images) -> np.ndarray:
    """Returns images as an array; raises ValueError if values are not finite or far outside [0, 255]."""
    try:
        array = np.asarray(images)
    except ValueError as error:
        raise ValueError(f"`images` must have one shape, to be an array of numbers: {error}") from error
    if array.size and array.dtype.kind in "iuf":
        low, high = float(array.min()), float(array.max())
        if not math.isfinite(low) or not math.isfinite(high):
            raise ValueError("`images` hold values that are not finite.")
        if low < -OVERSHOOT or high > 255 + OVERSHOOT:
            raise ValueError(
                f"`images` must hold values in [0, 255], but they go from {low:g} to {high:g}: divide 16-bit images by "
                "257."
            )
        if array.ndim > 2 and array.dtype.kind == "f" and 0 < max(-low, high) <= 1:
            warnings.warn(
                f"`images` must hold values in [0, 255], but they go from {low:g} to {high:g}, which is almost black: "
                "pass images that are not scaled yet.",
                stacklevel=3,
            )
    return array


def _check_numbers(shape, dtype: str, mean: np.ndarray, std: np.ndarray) -> None:
    """Raises ValueError unless images of this shape and dtype hold numbers for each mean and std."""
    if not dtype.startswith(("int", "uint", "float", "bfloat")):
        raise ValueError(f"`images` must hold integers or floating-point numbers, but got the dtype {dtype}.")
    channels = max(mean.size, std.size)
    if channels > 1 and getattr(shape, "rank", 0) is not None:
        sides = tuple(shape)
        if not sides or sides[-1] not in (None, channels):
            raise ValueError(
                f"`images` must have {channels} channels on their last axis, because `preprocessing` has a mean or std "
                f"for each, but got the shape {sides}."
            )
