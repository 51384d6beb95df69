"""Image files without a framework: their size before they are decoded, and PNG files."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from keras_mixer.images import as_png, declared_size

KINDS = ("PNG", "JPEG", "GIF")
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def encoded(kind: str, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_comes_from_the_header(kind):
    assert declared_size(encoded(kind)[:900]) == (30, 20)


def test_a_png_comes_back_as_it_was():
    np.testing.assert_array_equal(Image.open(io.BytesIO(as_png(PIXELS))), PIXELS)
    np.testing.assert_array_equal(Image.open(io.BytesIO(as_png(PIXELS[..., :1]))), PIXELS[..., 0])


@pytest.mark.parametrize("data", [b"", b"BM", encoded("BMP"), *(encoded(kind)[:20] for kind in KINDS)])
def test_what_has_no_size_is_a_value_error(data):
    with pytest.raises(ValueError, match=r"neither|Truncated|identified|frame"):
        declared_size(data)


def test_needs_neither_keras_nor_tensorflow():
    script = "import sys, keras_mixer.images\nassert not {'keras', 'tensorflow', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
