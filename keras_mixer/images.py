"""Image files without a framework: their formats by content, their sizes, and their pixels, upright, by Pillow.

`keras_mixer.data.pixels` reads the most frequent formats inside a TensorFlow graph, to the same pixels.
"""

import contextlib
import importlib
import io
import re
import threading
import warnings
from collections.abc import Iterator

import numpy as np

from keras_mixer.extras import require

# The suffixes by which the images of a folder are found; what a file is, its content says.
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".gif", ".bmp"),
    *(".webp", ".tif", ".tiff", ".jp2", ".j2k", ".avif", ".heic", ".heif"),
)
# 268 million pixels, 805 MB decoded: more than the largest phone's 16,320 x 12,240, and less than a forged header asks.
MAX_PIXELS = 2**28
# Images of more pixels than this, 201 MB decoded, are decoded one at a time.
LARGE = 2**26
GRAPH_FORMATS = ("JPEG", "PNG", "GIF", "BMP")

JPEG_START, PNG_START, GIF_START, BMP_START = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM"
# How files of a format begin.
_FORMATS = {
    "JPEG": re.escape(JPEG_START),
    "PNG": re.escape(PNG_START),
    "GIF": re.escape(GIF_START),
    "BMP": re.escape(BMP_START),
    "WEBP": rb"RIFF....WEBP",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "JPEG 2000": rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
    "JPEG XL": rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n",
    "AVIF": rb"....ftyp(avi[fs]|mi[fa]1.{4,44}avif)",  # the second begins as HEIC does
    "HEIC": rb"....ftyp(he[iv].|mi[fa]1|msf1)",
}
_PLUGINS = {
    "JPEG": "PIL.JpegImagePlugin.JpegImageFile",  # also an MPO, whose first image it reads
    "PNG": "PIL.PngImagePlugin.PngImageFile",
    "GIF": "PIL.GifImagePlugin.GifImageFile",
    "BMP": "PIL.BmpImagePlugin.BmpImageFile",
    "WEBP": "PIL.WebPImagePlugin.WebPImageFile",
    "TIFF": "PIL.TiffImagePlugin.TiffImageFile",
    "JPEG 2000": "PIL.Jpeg2KImagePlugin.Jpeg2KImageFile",
    "AVIF": "PIL.AvifImagePlugin.AvifImageFile",
    "HEIC": "pillow_heif.HeifImageFile",
}
_ORIENTATION, _SUBFILE_TYPE, _DNG_VERSION = 0x0112, 254, 50706  # tags of TIFF
# A GIF's first frame is looked for in so many bytes: Pillow would follow a file of tiny blocks for minutes.
_GIF_HEADER = 2**18
# TensorFlow's reader takes palettes and other layouts of a BMP for what they are not.
_BMP_BITS = (8, 24, 32)
_one_at_a_time, _filters = threading.Lock(), threading.Lock()


def image_format(data: bytes) -> str | None:
    """Returns the name of an image's format, such as "JPEG" or "HEIC", by its first bytes; None if it is unknown."""
    return next((name for name, start in _FORMATS.items() if re.match(start, data, re.DOTALL)), None)


def read_by_graphs(data: bytes) -> bool:
    """Returns whether an exported graph reads such a file, as far as its header tells."""
    if data.startswith(BMP_START):
        header, bits, compression = (
            int.from_bytes(data[start:end], "little") for start, end in ((14, 18), (28, 30), (30, 34))
        )
        return header >= 40 and bits in _BMP_BITS and compression == 0
    return image_format(data) in GRAPH_FORMATS


def declared_size(data: bytes) -> tuple[int, int]:
    """Reads an image's width and height as stored from its header, without decoding it.

    The size of a GIF is that of its canvas.

    Args:
        data: The bytes of the file.

    Returns:
        Width and height in pixels.

    Raises:
        ValueError: If the format is not one that is read, or its header cannot be read. The message goes on after
            "it cannot be read: ".
        ImportError: If Pillow is not installed, or pillow-heif for a HEIC file.
    """
    if data.startswith(PNG_START) and data[12:16] == b"IHDR" and len(data) >= 24:
        # Pillow looks at more of the header, and is stricter about it than TensorFlow's decoder.
        size = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
        if min(size) > 0:
            return size
    return _opened(data).size


def decode(data: bytes, channels: int = 3, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decodes an image of any format that is read, and turns it upright as its EXIF orientation says.

    The first image of a file is read. Transparency is dropped, and values of 16 bits are cut to their high byte.

    Args:
        data: The bytes of the file.
        channels: 3 for RGB, 1 for grey.
        max_pixels: The most pixels (height x width) of an image. Images beyond 2**26 are decoded one at a time.

    Returns:
        uint8 `(height, width, channels)`.

    Raises:
        ValueError: If the image is larger, damaged, or of a format that is not read.
        ImportError: If Pillow is not installed, or pillow-heif for a HEIC file.

    Example:
        >>> from keras_mixer import images
        >>> images.decode(pathlib.Path("photograph.heic").read_bytes()).shape
        (4032, 3024, 3)
    """
    image = _opened(data)
    width, height = image.size
    if width * height > max_pixels:
        raise ValueError(f"it is too large: {width:,} x {height:,} pixels, more than {max_pixels:,}")
    try:
        with _one_at_a_time if width * height > LARGE else contextlib.nullcontext():
            pixels = np.asarray(upright(image, "L" if channels == 1 else "RGB"))
    except Exception as error:  # Pillow raises OSError, SyntaxError, struct.error and others for damaged files
        raise ValueError(f"it is damaged: {error}") from error
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels


def problem(data: bytes, max_pixels: int = MAX_PIXELS) -> str | None:
    """Says why an image cannot be read, as the end of a sentence; None if it can."""
    try:
        decode(data, max_pixels=max_pixels)
    except (ValueError, ImportError) as error:
        return str(error)
    return None


def orientation(data: bytes) -> int:
    """Returns the EXIF orientation of an image, from 1 (upright) to 8; 1 also where decoding turns it by itself.

    Raises:
        ValueError: If the header cannot be read.
        ImportError: If Pillow is not installed, or pillow-heif for a HEIC file.
    """
    image = _opened(data)
    if image.format == "PNG":
        with contextlib.suppress(Exception):  # the data may stand behind the pixels
            image.load()
    if image.format == "TIFF":
        value = image.tag_v2.get(_ORIENTATION, 1)
        return value if value in range(1, 9) else 1
    return _exif_orientation(image)


def as_png(pixels: np.ndarray) -> bytes:
    """Writes a uint8 image `(height, width, 1 or 3)` as the bytes of a PNG file.

    Raises:
        ImportError: If Pillow is not installed.
    """
    require("PIL", command="pip install pillow", purpose="Writing images")
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def as_upright_png(data: bytes, max_pixels: int = MAX_PIXELS) -> bytes:
    """Converts an image of any format that `decode` reads to an upright RGB PNG without EXIF data."""
    return as_png(decode(data, 3, max_pixels))


def _opened(data: bytes):
    """Opens an image by Pillow, whose `open` would also guess the format and warn about large sizes."""
    kind = image_format(data)
    if kind is None:
        begin = f"its first bytes are {data[:8]!r}" if data else "it has no bytes"
        raise ValueError(f"it is not an image of a known format: {begin}")
    if kind not in _PLUGINS:
        raise ValueError(f"it is a {kind} file, which is not read: convert it to JPEG or PNG")
    if kind == "HEIC":
        require("pillow_heif", extra="heif", purpose="Reading HEIC images")
    require("PIL", command="pip install pillow", purpose="Reading images")
    module, _, name = _PLUGINS[kind].rpartition(".")
    try:
        plugin = getattr(importlib.import_module(module), name)
        with _without_warnings():
            if kind == "GIF":
                plugin(io.BytesIO(data[:_GIF_HEADER]))
            image = plugin(io.BytesIO(data))
    except Exception as error:
        raise ValueError(f"its header cannot be read: {error}") from error
    if kind == "TIFF" and (_DNG_VERSION in image.tag_v2 or image.tag_v2.get(_SUBFILE_TYPE, 0) & 1):
        raise ValueError("it is the raw file of a camera, such as DNG, which is not read: convert it to JPEG or PNG")
    return image


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Keeps Pillow from warning of EXIF data that means nothing; threads must not change the filters at once."""
    with _filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def upright(image, mode: str):
    """Converts an image of Pillow to "RGB" or "L" and turns it as its EXIF orientation says."""
    from PIL import Image

    if image.format == "JPEG" and mode == "L":
        image.draft("L", None)  # the luma as it is stored, as TensorFlow reads it
    box = image.tile[0][1] if image.format == "GIF" and image.tile else None  # none is left after loading
    image.load()  # a PNG may have its EXIF data behind the pixels; a TIFF is turned here
    orientation = _exif_orientation(image)
    if box is not None:
        image = Image.fromarray(_first_frame(np.asarray(image.convert("RGBA")), box))
    elif image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError("its values have 32 bits, and nothing says which of them is white")
    image = image.convert(mode)
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # to Pillow's transpositions
    return image.transpose(Image.Transpose(turns[orientation])) if orientation in turns else image


def _first_frame(canvas: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """Returns the frame of a GIF at `box` of its canvas as TensorFlow reads it: black where it is clear or cut off."""
    left, top, right, bottom = box
    frame = np.zeros((bottom - top, right - left, 3), np.uint8)
    shown = canvas[top:bottom, left:right][: max(len(frame) - top, 0), : max(frame.shape[1] - left, 0)]
    frame[top:, left:] = np.where(shown[..., 3:] > 0, shown[..., :3], 0)
    return frame


def _exif_orientation(image) -> int:
    from PIL import Image

    exif = Image.Exif()
    try:
        with _without_warnings():
            exif.load(image.info.get("exif") or b"")
            value = exif.get(_ORIENTATION, 1)
    except Exception:  # EXIF data that cannot be read says nothing
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
