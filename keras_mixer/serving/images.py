"""Encoded images are looked at before they are decoded: a few hundred bytes can declare gigabytes of pixels."""

import io

from keras_mixer.serving.errors import INSTALL_SERVE, invalid, need

# The input of the bytes signature; string inputs of other names are not taken for images.
INPUT_NAME = "image_bytes"


def check_image(data: bytes, max_pixels: int) -> None:
    """Raises a RequestError unless `data` begins as a JPEG or PNG of at most `max_pixels` pixels.

    Only the header is read. A file that is damaged further on is found when the model decodes it.
    """
    try:
        # The plug-ins are used directly: `Image.open` would warn of large sizes by a limit of its own.
        from PIL.JpegImagePlugin import JpegImageFile
        from PIL.PngImagePlugin import PngImageFile
    except ImportError:
        raise need(INSTALL_SERVE, "pillow", "Serving images") from None
    if not data:
        raise invalid("The image has no bytes: send a JPEG or PNG file.")
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        reader: type = PngImageFile
    elif data.startswith(b"\xff\xd8"):
        reader = JpegImageFile
    else:
        raise invalid(f"The image is neither JPEG nor PNG: its first bytes are {data[:8]!r}.")
    try:
        width, height = reader(io.BytesIO(data)).size
    except (
        Exception
    ) as error:  # what a damaged header raises is left open by Pillow: SyntaxError, OSError, struct.error
        raise invalid(f"The image's header cannot be read: {error}.") from None
    if width * height > max_pixels:
        raise invalid(f"The image declares {width} x {height} pixels, more than the {max_pixels:,} that are accepted.")
