import photographs
import pytest
import stand_in
import tensorflow as tf
from image_headers import gif_header, jpeg_header, png_header

from keras_mixer.serving.errors import RequestError
from keras_mixer.serving.server.config import Limits
from keras_mixer.serving.server.servable import check_image, check_images


@pytest.mark.parametrize("header", [png_header, jpeg_header, gif_header])
def test_a_declared_size_is_read_from_the_header_alone(header):
    check_image(header(100, 50), max_pixels=5000)
    with pytest.raises(RequestError, match="100 x 50 pixels"):
        check_image(header(100, 50), max_pixels=4999)
    with pytest.raises(RequestError, match="12000 x 12000 pixels"):
        check_image(header(12_000, 12_000), max_pixels=32_000_000)


def test_a_sound_image_passes():
    assert check_image(stand_in.png(0), max_pixels=64) == 64


@pytest.mark.parametrize("kind", [b"gAMA", b"pHYs", b"iCCP", b"tRNS", b"acTL", b"tEXt"])
def test_a_png_with_a_bad_part_passes_as_tensorflow_reads_it(kind):
    sound = stand_in.png(0)
    part = photographs.chunk(kind, b"a")
    data = sound[:33] + (part[:-1] + b"x" if kind == b"tEXt" else part) + sound[33:]
    assert tf.io.decode_png(data).shape == (8, 8, 3)
    assert check_image(data, max_pixels=64) == 64


@pytest.mark.parametrize(
    "part",
    [
        b"\xff\xee\0\7Adobe",
        b"\xff\xe0\0\7JFIF\0",
        b"\xff\xe2\0\x0eICC_PROFILE\0",
        b"\xff\1",
        b"junk\xff\0\xff\xff\xfe\0\3x",
    ],
)
def test_a_jpeg_with_an_odd_part_passes_as_tensorflow_reads_it(part):
    sound = tf.io.encode_jpeg(tf.zeros((8, 16, 3), tf.uint8)).numpy()
    data = sound[:20] + part + sound[20:]
    assert tf.io.decode_jpeg(data).shape == (8, 16, 3)
    assert check_image(data, max_pixels=128) == 128


def test_the_canvas_of_a_gif_counts():
    with pytest.raises(RequestError, match="65535 x 65535 pixels"):
        check_image(gif_header(100, 50, canvas=(65_535, 65_535)), max_pixels=2**28)


def test_a_gif_is_not_searched_for_ever():
    comments = [b"!\xfe" + b"\1c" * count + b"\0" for count in (1000, 2**20)]
    assert check_image(gif_header(10, 5, blocks=comments[0]), max_pixels=50) == 50
    with pytest.raises(RequestError, match="cannot be read"):
        check_image(gif_header(10, 5, blocks=comments[1]), max_pixels=50)


def test_the_images_of_a_request_have_a_limit_together():
    limits = Limits(max_image_pixels=5000)
    check_images([png_header(100, 50)] * 8, limits)
    with pytest.raises(RequestError, match=r"^Image 3 of the request declares 100 x 51 pixels"):
        check_images([*[png_header(100, 50)] * 3, png_header(100, 51)], limits)
    with pytest.raises(RequestError, match="declare 45,000 pixels together, more than the 40,000"):
        check_images([jpeg_header(100, 50)] * 9, limits)


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"BM", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\xff\xd8", stand_in.png(0)[:20]),
        *(gif_header(10, 5)[:20], gif_header(10, 5)[:13] + b";", gif_header(10, 5)[:13] + b"!\xfe\5c"),
    ],
)
def test_what_is_no_image_is_refused(data):
    with pytest.raises(RequestError) as failure:
        check_image(data, max_pixels=10**9)
    assert failure.value.http_status == 400
