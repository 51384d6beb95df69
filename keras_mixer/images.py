"""Image files without a framework: their formats, sizes read from headers, and PNG files made with Pillow."""

import io
import struct

import numpy as np

from keras_mixer.extras import require

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif")
# 67 million pixels, 200 MB decoded: more than any photograph has, and less than a forged header could ask for.
MAX_PIXELS = 2**26
# A GIF's blocks hold up to 255 bytes each, 32 MB together. A file of many tiny blocks must not take minutes.
MAX_BLOCKS = 2**17

JPEG_START, PNG_START, GIF_START = b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"GIF8"
_GIF_EXTENSION, _GIF_FRAME = 0x21, 0x2C
_GIF_HEADER_SIZE, _GIF_FLAGS = 13, 10


def declared_size(data: bytes) -> tuple[int, int]:
    """Reads an image's width and height from its header, without decoding it.

    The size of a GIF is that of its first frame, because only this frame is decoded. Pillow reports the canvas instead.

    Args:
        data: The bytes of the file.

    Returns:
        Width and height in pixels.

    Raises:
        ValueError: If `data` is not a JPEG, PNG or GIF file, or its header cannot be read.
        ImportError: If Pillow is not installed.
    """
    starts = {"JPEG": JPEG_START, "PNG": PNG_START, "GIF": GIF_START}
    kind = next((name for name, start in starts.items() if data.startswith(start)), None)
    if kind is None:
        raise ValueError(f"it is neither JPEG nor PNG nor GIF: its first bytes are {data[:8]!r}")
    if kind == "GIF":
        return _first_frame_size(data)
    require("PIL", command="pip install pillow", purpose="Reading images")
    # `Image.open` would warn about large sizes, with a limit of its own.
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile

    try:
        return (PngImageFile if kind == "PNG" else JpegImageFile)(io.BytesIO(data)).size
    except Exception as error:  # Pillow raises SyntaxError, OSError, struct.error and others for damaged headers
        raise ValueError(str(error)) from error


def _first_frame_size(data: bytes) -> tuple[int, int]:
    """Follows a GIF's blocks to its first frame (GIF89a specification, section 12 onwards)."""
    try:
        flags = data[_GIF_FLAGS]
        at = _GIF_HEADER_SIZE + (6 << (flags & 7) if flags & 0x80 else 0)  # after the colours of the whole file
        blocks = 0
        while data[at] == _GIF_EXTENSION:
            at += 2
            while True:  # a block is its size and as many bytes; the last one has size 0
                size = data[at]
                at, blocks = at + 1 + size, blocks + 1
                if blocks > MAX_BLOCKS:
                    raise ValueError(f"more than {MAX_BLOCKS:,} blocks precede its first frame")
                if size == 0:
                    break
        if data[at] != _GIF_FRAME:
            raise ValueError("it holds no frame")
        return struct.unpack_from("<HH", data, at + 5)
    except (IndexError, struct.error):
        raise ValueError("the file ends before its first frame") from None


def as_png(pixels: np.ndarray) -> bytes:
    """Writes a uint8 image `(height, width, 1 or 3)` as the bytes of a PNG file.

    Raises:
        ImportError: If Pillow is not installed.
    """
    require("PIL", command="pip install pillow", purpose="Writing images")
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "PNG")
    return file.getvalue()
