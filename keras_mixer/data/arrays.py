"""From the bytes of an image file to the input of a model, with Pillow and NumPy alone.

The counterpart of `keras_mixer.data.pixels` where TensorFlow is not used. `resize_matrix` also serves JAX.
"""

import collections
import concurrent.futures
import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np

from keras_mixer.cores import usable_cores
from keras_mixer.images import MAX_PIXELS, decode
from keras_mixer.preprocessing import LONGEST, REACH, UNFINISHED_LIMIT, Preprocessing

# What the streams on the host and on the device share: the purposes of random numbers, which are the order of an epoch,
# an example or a batch; and the bytes up to which decoded images are kept in memory. All of CIFAR takes 184 MB.
ORDER, EXAMPLE, BATCH = range(3)
MEMORY_LIMIT = 512 * 2**20

Given = TypeVar("Given")
Made = TypeVar("Made")


def reader(preprocessing: Preprocessing, max_pixels: int = MAX_PIXELS) -> Callable[[bytes], np.ndarray]:
    """Returns a function from encoded bytes to decoded pixels, uint8 `(any height, any width, channels)`.

    It raises ValueError if the image cannot be read.

    Raises:
        ValueError: If image files are not decoded to so many channels.
    """
    channels = preprocessing.channels
    if channels not in (1, 3):
        raise ValueError(f"Image files are decoded to 3 channels (RGB) or 1 (grey), but the model takes {channels}.")

    def read(encoded: bytes) -> np.ndarray:
        try:
            return decode(encoded, channels, max_pixels)
        except ImportError as error:  # the image is at fault, because most others are read
            raise ValueError(str(error)) from error

    return read


def preprocess(pixels: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Turns a decoded image with values in [0, 255] into the model's input, float32."""
    return normalize(fit(pixels, preprocessing), preprocessing)


def normalize(pixels, preprocessing: Preprocessing):
    """Scales `(..., channels)` float32 of NumPy or JAX from [0, 255] to the model's range."""
    mean, std = np.asarray(preprocessing.mean, np.float32), np.asarray(preprocessing.std, np.float32)
    return (pixels - 255 * mean) / (255 * std)


def fit(image: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Resizes (and crops) an image to float32 `(*image_size, channels)`, values still in [0, 255]."""
    wanted, interpolation = np.array(preprocessing.image_size), preprocessing.interpolation
    if preprocessing.resize == "direct":
        return resample(image, wanted, interpolation)
    scale = (
        wanted.astype(np.float32) * np.float32(1 / preprocessing.crop_share) / np.asarray(image.shape[:2], np.float32)
    )
    if preprocessing.resize == "crop":
        scale = scale.max()
        # Both ends of a very long image are cut off, because the crop does not show them.
        longest = LONGEST / preprocessing.crop_share * wanted / scale + 2 * REACH * max(1.0, 1.0 / scale)
        top, left = np.maximum(image.shape[:2] - np.ceil(longest).astype(int), 0) // 2
        image = image[top : len(image) - top, left : image.shape[1] - left]
    # Rounding must not make the image smaller than the crop.
    resized = np.maximum(np.round(np.asarray(image.shape[:2], np.float32) * scale).astype(int), wanted)
    top, left = (resized - wanted) // 2
    return resample(image, resized, interpolation)[top : top + wanted[0], left : left + wanted[1]]


def resample(image: np.ndarray, size, interpolation: str) -> np.ndarray:
    """Resizes to `size` with this interpolation, antialiased, float32 in [0, 255]."""
    boxes = [(0, side) for side in image.shape[:2]]
    return np.clip(resized_box(image, boxes, size, interpolation, antialias=True), 0, 255)


def resized_box(image: np.ndarray, boxes, size, interpolation: str, antialias: bool) -> np.ndarray:
    """Resizes a box of an image, `boxes` with (first, extent) of rows and of columns, to `size`; float32."""
    (top, height), (left, width) = boxes
    image = image[top : top + height, left : left + width]
    axes = [0, 1]
    if height < size[0] and size[0] * width * image.shape[2] > UNFINISHED_LIMIT:
        axes = [1, 0]  # the image between the two steps could take gigabytes
    image = image.astype(np.float32)
    for axis in axes:
        if image.shape[axis] != size[axis]:
            lines = np.moveaxis(image, axis, 0)
            table = np.ascontiguousarray(lines).reshape(len(lines), -1)
            resized = np.empty((int(size[axis]), table.shape[1]), np.float32)
            # A product with the whole matrix would multiply mostly zeros.
            for line, (first, factors) in zip(
                resized, _bands(image.shape[axis], len(resized), interpolation, antialias), strict=True
            ):
                np.matmul(factors, table[first : first + len(factors)], out=line)
            image = np.moveaxis(resized.reshape(-1, *lines.shape[1:]), 0, axis)
    return image


@functools.lru_cache(maxsize=64)
def _bands(inputs: int, outputs: int, interpolation: str, antialias: bool) -> list[tuple[int, np.ndarray]]:
    """Returns, for each pixel of the result, the first pixel that counts and the weights from there on."""
    bands = []
    for row in resize_matrix(inputs, outputs, 0, inputs, interpolation, antialias):
        places = np.flatnonzero(row)
        bands.append((int(places[0]), row[places[0] : places[-1] + 1].copy()))
    return bands


def resize_matrix(inputs: int, outputs: int, first, extent, interpolation: str, antialias: bool, xp: Any = np):
    """Returns the matrix that resizes a part of a line of pixels, as `tf.image.resize` does.

    Args:
        inputs: Pixels of the line.
        outputs: Pixels of the result.
        first: The first pixel of the part, a number or a scalar of `xp`.
        extent: Pixels of the part, likewise.
        interpolation: One of `keras_mixer.preprocessing.INTERPOLATIONS`.
        antialias: Whether the kernel grows when the line shrinks.
        xp: `numpy` or `jax.numpy`.

    Returns:
        float32 `(outputs, inputs)`; every row adds up to 1.
    """
    extent = xp.float32(extent)
    scale = extent / np.float32(outputs)
    centres = (xp.arange(outputs, dtype="float32") + np.float32(0.5))[:, None] * scale  # from the edge of the part
    places = xp.arange(inputs, dtype="float32")[None] - xp.float32(first)
    if interpolation == "nearest":
        values = places == xp.minimum(xp.floor(centres), extent - 1)
    elif interpolation == "area":
        ends = xp.minimum(places + 1, centres + scale / 2) - xp.maximum(places, centres - scale / 2)
        values = xp.maximum(ends, 0)
    else:
        stretch = xp.maximum(scale, np.float32(1)) if antialias else np.float32(1)
        values = _KERNELS[interpolation](xp.abs(places + np.float32(0.5) - centres) / stretch, xp)
    values = xp.where((places >= 0) & (places < extent), values, 0).astype("float32")
    return values / values.sum(axis=1, keepdims=True)


def _triangle(distance, xp):
    return xp.maximum(1 - distance, 0)


def _keys_cubic(distance, xp):
    near = ((1.5 * distance - 2.5) * distance) * distance + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return xp.where(distance < 1, near, xp.where(distance < 2, far, 0))


def _lanczos(radius: int):
    def kernel(distance, xp):
        angle = math.pi * xp.maximum(distance, 1e-3)
        lobes = radius * xp.sin(angle) * xp.sin(angle / radius) / angle**2
        return xp.where(distance <= 1e-3, 1, xp.where(distance <= radius, lobes, 0))

    return kernel


_KERNELS = {"bilinear": _triangle, "bicubic": _keys_cubic, "lanczos3": _lanczos(3), "lanczos5": _lanczos(5)}


def in_order(
    function: Callable[[Given], Made], items: Iterable[Given], window: int, threads: int | None = None
) -> Iterator[Made]:
    """Yields `function(item)` for each item in order; threads, one per core, work up to `window` items ahead."""
    waiting: collections.deque[concurrent.futures.Future] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(threads or usable_cores()) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= window:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
