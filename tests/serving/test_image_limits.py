import pytest
import stand_in
from image_headers import jpeg_header, png_header

from keras_mixer.serving.config import Limits
from keras_mixer.serving.errors import RequestError
from keras_mixer.serving.images import check_image, check_images


@pytest.mark.parametrize("header", [png_header, jpeg_header])
def test_a_declared_size_is_read_from_the_header_alone(header):
    check_image(header(100, 50), max_pixels=5000)
    with pytest.raises(RequestError, match="100 x 50 pixels"):
        check_image(header(100, 50), max_pixels=4999)
    with pytest.raises(RequestError, match="30000 x 30000 pixels"):
        check_image(header(30_000, 30_000), max_pixels=32_000_000)


def test_a_sound_image_passes():
    assert check_image(stand_in.png(0), max_pixels=64) == 64


def test_the_images_of_a_request_have_a_limit_together():
    limits = Limits(max_image_pixels=5000)
    check_images([png_header(100, 50)] * 8, limits)
    with pytest.raises(RequestError, match="declare 45,000 pixels together, more than the 40,000"):
        check_images([jpeg_header(100, 50)] * 9, limits)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\xff\xd8", stand_in.png(0)[:20]])
def test_what_is_no_image_is_refused(data):
    with pytest.raises(RequestError) as failure:
        check_image(data, max_pixels=10**9)
    assert failure.value.http_status == 400
