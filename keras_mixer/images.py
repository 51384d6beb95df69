"""Reads image files without a framework: format (by content), size, orientation, and upright pixels, with Pillow.

`keras_mixer.data.pixels` reads the most frequent formats inside a TensorFlow graph and returns the same pixels.
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

# Suffixes of the files that are taken for images in a folder. The format is told by the content, not by the suffix.
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".bmp"),
    *(".webp", ".tif", ".tiff", ".jp2", ".j2k", ".avif", ".heic", ".heif", ".hif"),
)
# 268 million pixels, 805 MB decoded: more than any phone takes (16,320 x 12,240), and less than forged headers declare.
MAX_PIXELS = 2**28
# Images of more pixels than this, 201 MB decoded, are decoded one at a time.
LARGE = 2**26
GRAPH_FORMATS = ("JPEG", "PNG", "GIF", "BMP")

JPEG_START, PNG_START, GIF_START, BMP_START = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM"
_PNG_END = b"IEND\xaeB`\x82"  # the last chunk and its checksum
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
    "AVIF": rb"....ftyp(avi[fs]|mi[fa]1.{4,44}avif)",  # the second alternative begins like HEIC
    "HEIC": rb"....ftyp(he[iv].|mi[fa]1|msf1)",
}
_PLUGINS = {
    "JPEG": "PIL.JpegImagePlugin.JpegImageFile",  # also reads the first image of an MPO
    "PNG": "PIL.PngImagePlugin.PngImageFile",
    "GIF": "PIL.GifImagePlugin.GifImageFile",
    "BMP": "PIL.BmpImagePlugin.BmpImageFile",
    "WEBP": "PIL.WebPImagePlugin.WebPImageFile",
    "TIFF": "PIL.TiffImagePlugin.TiffImageFile",
    "JPEG 2000": "PIL.Jpeg2KImagePlugin.Jpeg2KImageFile",
    "AVIF": "PIL.AvifImagePlugin.AvifImageFile",
    "HEIC": "pillow_heif.HeifImageFile",
}
# What begins a part of a JPEG, after any padding, and the parts that declare a size.
_JPEG_MARKER, _JPEG_FRAMES = re.compile(rb"\xff([^\0\xff])"), {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_ORIENTATION, _SUBFILE_TYPE, _DNG_VERSION = 0x0112, 254, 50706  # TIFF tags
# The first frame of a GIF must begin in this many bytes. Pillow would parse a file of tiny blocks for minutes.
_GIF_HEADER = 2**18
# TensorFlow misreads BMP files with palettes and other unusual layouts.
_BMP_BITS = (8, 24, 32)
_one_at_a_time, _filters = threading.Lock(), threading.Lock()


def image_format(data: bytes) -> str | None:
    """Returns the name of an image's format, such as "JPEG" or "HEIC", from its first bytes; None if it is unknown."""
    return next((name for name, start in _FORMATS.items() if re.match(start, data, re.DOTALL)), None)


def read_by_graphs(data: bytes) -> bool:
    """Returns whether an exported graph can read a file, as far as its header tells."""
    if data.startswith(BMP_START):
        header, bits, compression = (
            int.from_bytes(data[start:end], "little") for start, end in ((14, 18), (28, 30), (30, 34))
        )
        return header >= 40 and bits in _BMP_BITS and compression == 0
    return image_format(data) in GRAPH_FORMATS


def declared_size(data: bytes) -> tuple[int, int]:
    """Reads the stored width and height of an image from its header, without decoding it.

    For a GIF, this is the size of the canvas.

    Args:
        data: The bytes of the file.

    Returns:
        Width and height in pixels.

    Raises:
        ValueError: If the format is not supported, or the header cannot be read. The message is worded to follow
            "... cannot be read: ".
        ImportError: If Pillow is not installed, or pillow-heif for a HEIC file.
    """
    # Pillow reads more of the header than TensorFlow's decoders and is stricter.
    size = 0, 0
    if data.startswith(PNG_START) and data[12:16] == b"IHDR" and len(data) >= 24:
        size = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    elif data.startswith(JPEG_START):
        size = _declared_in_jpeg(data)
    return size if min(size) > 0 else _opened(data).size


def _declared_in_jpeg(data: bytes) -> tuple[int, int]:
    """Finds the frame of a JPEG as libjpeg does, and returns its width and height; zeros if there is no frame."""
    at = 2
    while (found := _JPEG_MARKER.search(data, at)) and found[1] not in (b"\xd9", b"\xda"):  # the end, the pixels
        at, marker = found.end(), found[1][0]
        if marker in _JPEG_FRAMES:
            return int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 3 : at + 5], "big")
        if marker != 1 and not 0xD0 <= marker <= 0xD8:  # nothing follows these
            at += max(int.from_bytes(data[at : at + 2], "big"), 2)
    return 0, 0


def decode(data: bytes, channels: int = 3, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decodes an image of any supported format and turns it upright by its EXIF orientation.

    Only the first image of a file is read. Transparency is dropped. Of 16-bit values, the high byte is kept.

    Args:
        data: The bytes of the file.
        channels: 3 for RGB, 1 for grey.
        max_pixels: Largest number of pixels (height x width). Images of more than 2**26 pixels are decoded one at a
            time.

    Returns:
        uint8 `(height, width, channels)`.

    Raises:
        ValueError: If the image is too large or damaged, or its format is not supported.
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
    if data.startswith(PNG_START) and _PNG_END not in data:  # Pillow would read it if no pixel is missing
        raise ValueError("it is damaged: the file is cut short")
    try:
        with _one_at_a_time if width * height > LARGE else contextlib.nullcontext():
            pixels = np.asarray(upright(image, "L" if channels == 1 else "RGB"))
    except Exception as error:  # Pillow raises OSError, SyntaxError, struct.error and others for damaged files
        raise ValueError(f"it is damaged: {error}") from error
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels


def problem(data: bytes, max_pixels: int = MAX_PIXELS) -> str | None:
    """Returns why an image cannot be read, worded as the end of a sentence; None if it can be read."""
    try:
        decode(data, max_pixels=max_pixels)
    except (ValueError, ImportError) as error:
        return str(error)
    return None


def orientation(data: bytes) -> int:
    """Returns the EXIF orientation of an image, from 1 (upright) to 8. It is also 1 if the decoder turns the image.

    Raises:
        ValueError: If the header cannot be read.
        ImportError: If Pillow is not installed, or pillow-heif for a HEIC file.
    """
    image = _opened(data)
    if image.format == "TIFF":
        return _turn(image.tag_v2)
    if image.format == "PNG":  # its EXIF data may follow the pixels, which need not be decoded
        exif = [data[start + 8 : end - 4] for name, start, end in _chunks(data) if name == b"eXIf"]
        return _exif_orientation(exif[-1] if exif else b"")
    return _exif_orientation(image.info.get("exif"))


def as_png(pixels: np.ndarray) -> bytes:
    """Encodes a uint8 image `(height, width, 1 or 3)` as PNG and returns the bytes.

    Raises:
        ImportError: If Pillow is not installed.
    """
    require("PIL", command="pip install pillow", purpose="Writing images")
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def as_upright_png(data: bytes, max_pixels: int = MAX_PIXELS) -> bytes:
    """Converts an image of any format that `decode` supports to an upright RGB PNG without EXIF data."""
    return as_png(decode(data, 3, max_pixels))


def _opened(data: bytes):
    """Opens an image with Pillow, but not by `PIL.Image.open`, which guesses formats and warns about large sizes."""
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
    if kind == "PNG":
        data = _without_profiles(data)
    try:
        plugin = getattr(importlib.import_module(module), name)
        with _without_warnings():
            if kind == "GIF":
                plugin(io.BytesIO(data[:_GIF_HEADER]))
            image = plugin(io.BytesIO(data))
            kind_of_subfile = image.tag_v2.get(_SUBFILE_TYPE) if kind == "TIFF" else None
    except Exception as error:
        raise ValueError(f"its header cannot be read: {error}") from error
    reduced = isinstance(kind_of_subfile, int) and kind_of_subfile & 1
    if kind == "TIFF" and (_DNG_VERSION in image.tag_v2 or reduced):
        raise ValueError("it is the raw file of a camera, such as DNG, which is not read: convert it to JPEG or PNG")
    return image


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yields the name of each chunk of a PNG, and where it starts and ends."""
    end = len(PNG_START)
    name = b""
    while name != b"IEND" and end + 8 <= len(data):
        start, name = end, data[end + 4 : end + 8]
        end += 12 + int.from_bytes(data[start : start + 4], "big")
        yield name, start, end


def _without_profiles(data: bytes) -> bytes:
    """Leaves out colour profiles and texts of a PNG, which are not used. Pillow refuses them above 1 MB."""
    unused = [(start, end) for name, start, end in _chunks(data) if name in (b"iCCP", b"tEXt", b"zTXt", b"iTXt")]
    starts, ends = [0, *(end for _, end in unused)], [*(start for start, _ in unused), len(data)]
    return b"".join(data[start:end] for start, end in zip(starts, ends, strict=True)) if unused else data


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Silences Pillow's warnings about meaningless EXIF data. A lock protects the filters, which threads share."""
    with _filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def upright(image, mode: str):
    """Converts a Pillow image to "RGB" or "L" and turns it upright by its EXIF orientation."""
    from PIL import Image

    if image.format == "JPEG" and mode == "L":
        image.draft("L", None)  # reads the stored luma, as TensorFlow does
    box = image.tile[0][1] if image.format == "GIF" and image.tile else None  # gone after loading
    image.load()  # the EXIF data of a PNG may follow the pixels; a TIFF is turned here
    orientation = _exif_orientation(image.info.get("exif"))
    if box is not None:
        image = Image.fromarray(_first_frame(np.asarray(image.convert("RGBA")), box))
    elif image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError("its values have 32 bits, and nothing says which of them is white")
    image.info.pop("transparency", None)  # of a palette, Pillow would warn of it
    image = image.convert(mode)
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # EXIF orientation -> Pillow's transposition
    return image.transpose(Image.Transpose(turns[orientation])) if orientation in turns else image


def _first_frame(canvas: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """Returns the GIF frame at `box` of the canvas as TensorFlow reads it: transparent or missing pixels are black."""
    left, top, right, bottom = box
    frame = np.zeros((bottom - top, right - left, 3), np.uint8)
    shown = canvas[top:bottom, left:right][: max(len(frame) - top, 0), : max(frame.shape[1] - left, 0)]
    frame[top:, left:] = np.where(shown[..., 3:] > 0, shown[..., :3], 0)
    return frame


def _exif_orientation(data: bytes | None) -> int:
    from PIL import Image

    exif = Image.Exif()
    try:
        with _without_warnings():
            exif.load(data or b"")
    except Exception:  # unreadable EXIF data counts as upright
        return 1
    return _turn(exif)


def _turn(tags) -> int:
    """Returns the orientation in EXIF data or in the tags of a TIFF; 1 if it is missing, damaged or out of range."""
    try:
        with _without_warnings():  # values are read when they are asked for
            value = tags.get(_ORIENTATION, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
