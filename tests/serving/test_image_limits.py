import struct
import zlib

import pytest
import stand_in

from keras_mixer.serving.errors import RequestError
from keras_mixer.serving.images import check_image


def png_header(width: int, height: int) -> bytes:
    """The beginning of a PNG that declares a size, and holds no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"")
    chunks = [
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in (header, data)
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def jpeg_header(width: int, height: int) -> bytes:
    frame = struct.pack(">BHHB", 8, height, width, 3) + bytes([1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1])
    return b"\xff\xd8\xff\xc0" + struct.pack(">H", len(frame) + 2) + frame + b"\xff\xda\x00\x02"


@pytest.mark.parametrize("header", [png_header, jpeg_header])
def test_a_declared_size_is_read_from_the_header_alone(header):
    check_image(header(100, 50), max_pixels=5000)
    with pytest.raises(RequestError, match="100 x 50 pixels"):
        check_image(header(100, 50), max_pixels=4999)
    with pytest.raises(RequestError, match="30000 x 30000 pixels"):
        check_image(header(30_000, 30_000), max_pixels=32_000_000)


def test_a_sound_image_passes():
    check_image(stand_in.png(0), max_pixels=64)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\xff\xd8", stand_in.png(0)[:20]])
def test_what_is_no_image_is_refused(data):
    with pytest.raises(RequestError) as failure:
        check_image(data, max_pixels=10**9)
    assert failure.value.http_status == 400
