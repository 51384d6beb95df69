"""Image files without a framework: their size before they are decoded, and PNG files."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, TiffImagePlugin

from keras_mixer.images import GRAPH_FORMATS, as_png, declared_size, decode, image_format, orientation, problem

KINDS = GRAPH_FORMATS
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def encoded(kind: str, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_comes_from_the_header(kind):
    assert declared_size(encoded(kind)[:900]) == (30, 20)


def test_the_size_of_a_jpeg_is_not_that_of_its_thumbnail():
    thumbnail = io.BytesIO()
    Image.fromarray(PIXELS[:5, :7]).save(thumbnail, "JPEG")
    data = encoded("JPEG", exif=b"Exif\0\0" + bytes(40) + thumbnail.getvalue())
    assert data.count(b"\xff\xc0") == 2
    assert declared_size(data) == (30, 20)


def test_a_png_comes_back_as_it_was():
    np.testing.assert_array_equal(Image.open(io.BytesIO(as_png(PIXELS))), PIXELS)
    np.testing.assert_array_equal(Image.open(io.BytesIO(as_png(PIXELS[..., :1]))), PIXELS[..., 0])


@pytest.mark.parametrize("data", [b"", b"BM", b"GIF89a", *(encoded(kind)[:12] for kind in KINDS)])
def test_what_has_no_size_is_a_value_error(data):
    with pytest.raises(ValueError, match=r"its header cannot be read|not an image of a known format"):
        declared_size(data)


@pytest.mark.parametrize(
    ("data", "name", "reason"),
    [
        (b"\xff\x0a" + bytes(20), "JPEG XL", "it is a JPEG XL file, which is not read: convert it to JPEG or PNG"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "AVIF", "its header cannot be read: "),
        (b"\0\0\0\x18ftypheic" + bytes(200), "HEIC", "its header cannot be read: "),
        (b"<html>404</html>", None, "it is not an image of a known format: its first bytes are b'<html>40'"),
    ],
)
def test_a_format_is_told_by_content_and_what_is_wrong_is_said(data, name, reason):
    assert image_format(data) == name
    assert problem(data).startswith(reason)


def test_a_camera_s_raw_file_is_no_photograph(monkeypatch):
    for tag, value in ((50706, b"\1\4\0\0"), (254, 1)):  # the version of DNG; a reduced image, as in NEF
        tags = Image.Exif()
        tags[tag] = value
        assert "the raw file of a camera" in problem(encoded("TIFF", exif=tags))


@pytest.mark.parametrize(("tag", "value"), [(254, "abc"), (254, 1.5), (274, "abc")])
def test_a_tiff_with_tags_of_other_types_is_an_image(tag, value, recwarn):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags.tagtype[tag] = 2 if isinstance(value, str) else 11
    tags[tag] = value
    data = encoded("TIFF", tiffinfo=tags)
    assert orientation(data) == 1
    np.testing.assert_array_equal(decode(data), PIXELS)
    assert not recwarn.list


def test_profiles_and_texts_of_any_size_do_not_matter_in_a_png():
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", "x" * 2**21, zip=True)
    texts.add_text("Comment", "y" * 2**21, zip=True)
    tags = Image.Exif()
    tags[274] = 6
    data = encoded("PNG", icc_profile=np.random.default_rng(0).bytes(2**21), pnginfo=texts, exif=tags)
    assert orientation(data) == 6
    np.testing.assert_array_equal(decode(data), np.rot90(PIXELS, -1))


def test_the_orientation_of_a_png_is_found_without_its_pixels():
    """A small file may declare gigabytes of pixels."""
    tags = Image.Exif()
    tags[274] = 8
    data = encoded("PNG", exif=tags)
    damaged = data.replace(data[data.index(b"IDAT") + 4 :][:20], bytes(20))
    assert orientation(damaged) == 8
    assert "damaged" in problem(damaged)


def test_a_palette_with_transparency_warns_of_nothing(recwarn):
    file = io.BytesIO()
    image = Image.fromarray(PIXELS).quantize(16)
    image.save(file, "PNG", transparency=bytes(16))
    np.testing.assert_array_equal(decode(file.getvalue()), image.convert("RGB"))
    assert not recwarn.list


def test_heic_without_its_package_names_the_extra(monkeypatch):
    monkeypatch.setattr("keras_mixer.extras.installed", lambda module: module != "pillow_heif")
    assert problem(b"\0\0\0\x18ftypheic" + bytes(200)) == (
        'Reading HEIC images needs pillow_heif, which is not installed: pip install "keras_mixer[heif]"'
    )


def test_needs_neither_keras_nor_tensorflow():
    script = "import sys, keras_mixer.images\nassert not {'keras', 'tensorflow', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
