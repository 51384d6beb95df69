"""Encoded images are looked at before they are decoded: a few hundred bytes can declare gigabytes of pixels."""

import io
from collections.abc import Callable, Iterable

from keras_mixer.serving.config import Limits
from keras_mixer.serving.errors import INSTALL_SERVE, invalid, need
from keras_mixer.serving.gif import first_frame_size, is_gif

# The input of the bytes signature; string inputs of other names are not taken for images.
INPUT_NAME = "image_bytes"


def check_images(images: Iterable[bytes], limits: Limits) -> None:
    """Raises a RequestError unless each image of a request keeps its limit, and all of them together keep theirs."""
    pixels = sum(check_image(data, limits.max_image_pixels) for data in images)
    if pixels > limits.max_request_pixels:
        raise invalid(
            f"The request's images declare {pixels:,} pixels together, more than the {limits.max_request_pixels:,} "
            f"that are accepted: send fewer at a time, or smaller ones."
        )


def check_image(data: bytes, max_pixels: int) -> int:
    """Returns the pixels that a JPEG, a PNG or the first frame of a GIF declares.

    Only the header is read. A file that is damaged further on is found when the model decodes it. A GIF's other frames
    are not looked at, for exported graphs leave them out.

    Raises:
        RequestError: If `data` begins as none of them, or declares more than `max_pixels`.
    """
    try:
        # The plug-ins are used directly: `Image.open` would warn of large sizes by a limit of its own.
        from PIL.JpegImagePlugin import JpegImageFile
        from PIL.PngImagePlugin import PngImageFile
    except ImportError:
        raise need(INSTALL_SERVE, "pillow", "Serving images") from None
    if not data:
        raise invalid("The image has no bytes: send a JPEG, PNG or GIF file.")
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        size_of = _size_by(PngImageFile)
    elif data.startswith(b"\xff\xd8"):
        size_of = _size_by(JpegImageFile)
    elif is_gif(data):
        size_of = first_frame_size
    else:
        raise invalid(f"The image is neither JPEG nor PNG nor GIF: its first bytes are {data[:8]!r}.")
    try:
        width, height = size_of(data)
    except (
        Exception
    ) as error:  # what a damaged header raises is left open by Pillow: SyntaxError, OSError, struct.error
        raise invalid(f"The image's header cannot be read: {error}.") from None
    if width * height > max_pixels:
        raise invalid(f"The image declares {width} x {height} pixels, more than the {max_pixels:,} that are accepted.")
    return width * height


def _size_by(reader: type) -> Callable[[bytes], tuple[int, int]]:
    return lambda data: reader(io.BytesIO(data)).size
