"""Image files without a framework: their size before they are decoded, and their pixels by Pillow."""

import io
import subprocess
import sys

import numpy as np
import pytest
from image_headers import gif_header, jpeg_header, png_header
from PIL import Image

from keras_mixer.images import as_png, declared_size, decode, image_format

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def encoded(kind: str, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF"])
def test_the_format_and_the_size_come_from_the_header(kind):
    assert image_format(encoded(kind)) == kind
    assert declared_size(encoded(kind)[:900]) == (30, 20)


def test_a_png_comes_back_as_it_was():
    np.testing.assert_array_equal(decode(as_png(PIXELS)), PIXELS)
    np.testing.assert_array_equal(decode(as_png(PIXELS[..., :1]), channels=1), PIXELS[..., :1])


def test_a_gif_gives_its_first_frame_without_the_canvas():
    frames = [Image.fromarray(PIXELS).quantize(16), Image.fromarray(255 - PIXELS).quantize(16)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode(file.getvalue()), np.asarray(frames[0].convert("RGB")))


@pytest.mark.parametrize("header", [png_header, jpeg_header, gif_header])
def test_an_image_that_is_too_large_is_not_decoded(header):
    with pytest.raises(ValueError, match="30,000 x 30,000 pixels, more than 67,108,864"):
        decode(header(30_000, 30_000))


@pytest.mark.parametrize("data", [b"", b"BM", encoded("PNG")[:100], encoded("BMP")])
def test_what_cannot_be_decoded_is_a_value_error(data):
    with pytest.raises(ValueError, match=r"header|neither|cannot|frame|file|bytes|image"):
        decode(data)


def test_needs_neither_keras_nor_tensorflow():
    script = "import sys, keras_mixer.images\nassert not {'keras', 'tensorflow', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
