"""Images as a caller has them, to the bytes or numbers that a server takes."""

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_mixer.serving.errors import need

Image = str | os.PathLike | bytes | np.ndarray


def as_list(images: Image | Sequence[Image]) -> list:
    """One image or several as a list; an array with a batch axis gives one image per row."""
    if isinstance(images, (str, os.PathLike, bytes, bytearray)):
        return [images]
    if isinstance(images, np.ndarray):
        if images.ndim not in (3, 4):
            raise ValueError(f"An image array has shape (height, width, channels), but got {images.shape}.")
        return [images] if images.ndim == 3 else list(images)
    return list(images)


def encoded(image: Image) -> bytes:
    """The bytes of an image file: read from a path, taken as they are, or written from a uint8 array as PNG.

    Args:
        image: A path, a file's bytes, or a uint8 array `(height, width, channels)` with 1 or 3 channels.

    Raises:
        OSError: If a path cannot be read.
        ValueError: If an array is not an image.
        ImportError: If an array is given and Pillow is not installed.
    """
    if isinstance(image, (bytes, bytearray)):
        return bytes(image)
    if isinstance(image, (str, os.PathLike)):
        return Path(image).read_bytes()
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] not in (1, 3) or 0 in array.shape:
        raise ValueError(
            f"An image array must be uint8 (height, width, 1 or 3), but got {array.dtype} {array.shape}: "
            "send preprocessed float arrays all alike, or convert to uint8."
        )
    try:
        from PIL import Image as PillowImage
    except ImportError:
        raise need("pip install pillow", "pillow", "Sending uint8 arrays") from None
    file = io.BytesIO()
    PillowImage.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(file, "PNG")
    return file.getvalue()
