"""Files as phones, cameras and programs write them: the graph and the Pillow reader against Pillow and each other."""

import io
import struct
import warnings

import numpy as np
import photographs
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from keras_mixer import images
from keras_mixer.artefacts.decoding import decode_batch
from keras_mixer.data import orientation, pixels
from keras_mixer.preprocessing import Preprocessing

ZOO = photographs.zoo()
PHOTOGRAPH = photographs.photograph(0, (48, 32))


def by_pillow(data: bytes, mode: str = "RGB") -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert(mode))


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("name", ZOO)
def test_both_readers_see_the_same(name, channels):
    data = ZOO[name]
    found = images.decode(data, channels)
    np.testing.assert_array_equal(pixels.read(tf.constant(data), channels), found)
    if images.read_by_graphs(data):
        np.testing.assert_array_equal(pixels.decode(tf.constant(data), channels), found)
    else:
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"pixels, or a format that is not supported"):
            pixels.decode(tf.constant(data), channels)


@pytest.mark.parametrize("name", sorted(set(ZOO) - {"clear.gif", "grey16.png", "deep.tiff", "plain.heic"}))
def test_the_pixels_are_those_of_pillow(name):
    np.testing.assert_array_equal(images.decode(ZOO[name]), by_pillow(ZOO[name]))
    assert images.declared_size(ZOO[name]) == Image.open(io.BytesIO(ZOO[name])).size


def test_where_pillow_has_no_rule_the_readers_have_one():
    grey = np.asarray(photographs.photograph(0, (48, 32), 3).convert("L"))
    for name in ("grey16.png", "deep.tiff"):  # 16 bits are cut to the high byte
        np.testing.assert_array_equal(images.decode(ZOO[name], 1)[..., 0], grey)
    clear = np.asarray(Image.open(io.BytesIO(ZOO["clear.gif"])).convert("RGBA"))
    np.testing.assert_array_equal(images.decode(ZOO["clear.gif"]), np.where(clear[..., 3:], clear[..., :3], 0))
    turned = np.abs(images.decode(ZOO["plain.heic"]).astype(int) - photographs.photograph(0, (48, 32), 3)).mean()
    assert turned < 6  # lossy, and turned once


@pytest.mark.parametrize("cut", [1, 4, 12, 14])
def test_a_png_without_its_end_is_damaged_even_if_no_pixel_is_missing(cut):
    data = ZOO["plain.png"][:-cut]
    assert "cut short" in images.problem(data)
    with pytest.raises(tf.errors.InvalidArgumentError):
        pixels.read(tf.constant(data))


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("byte_order", ["II", "MM"])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_every_orientation_is_turned_as_pillow_turns_it(file_format, byte_order, late):
    lossless = {"lossless": True} if file_format == "WEBP" else {}
    for turn in photographs.ORIENTATIONS:
        data = photographs.encoded(PHOTOGRAPH, file_format, turn, byte_order, late, **lossless)
        expected = by_pillow(data)
        assert expected.shape == (32, 48, 3)
        np.testing.assert_array_equal(images.decode(data), expected)
        np.testing.assert_array_equal(pixels.decode(tf.constant(data), webp=True), expected)
        assert images.orientation(data) == turn


@pytest.mark.parametrize("file_format", ["TIFF", "AVIF", "HEIF"])
def test_formats_outside_graphs_are_turned_once(file_format):
    for turn in photographs.ORIENTATIONS:
        data = photographs.encoded(PHOTOGRAPH, file_format, turn)
        difference = np.abs(images.decode(data).astype(int) - np.asarray(PHOTOGRAPH)).mean()
        assert difference < 8, turn
        png = images.as_upright_png(data)
        assert images.orientation(png) == 1
        np.testing.assert_array_equal(images.decode(png), images.decode(data))


PLAIN = photographs.encoded(PHOTOGRAPH, quality=50)


def orientation_by_pillow(content: bytes) -> int:
    """What Pillow finds in EXIF data, as far as it is a whole number that is an orientation."""
    tags = Image.Exif()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tags.load(content)
            value = tags.get(0x0112, 1)
    except (SyntaxError, struct.error):
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


ENTRIES = st.lists(
    st.tuples(
        st.sampled_from([0x0112, 0x0112, 0x010F, 0x8769]),
        st.sampled_from([1, 3, 3, 3, 4, 6, 7, 8, 9, 13]),
        st.sampled_from([1, 1, 1, 2]),
        st.integers(0, 9),
    ),
    max_size=3,
    unique_by=lambda entry: entry[0],
)


@settings(max_examples=60, deadline=None)
@given(
    order=st.sampled_from("<>"),
    mark=st.sampled_from([42, 42, 42, 43, 0x2A00, 7]),
    start=st.sampled_from([8, 8, 8, 10, 0, 200, 2**32 - 1]),
    extra=st.integers(-1, 1),
    entries=ENTRIES,
    cut=st.integers(0, 14),
)
def test_exif_data_means_what_it_means_to_pillow(order, mark, start, extra, entries, cut):
    directory = struct.pack(f"{order}H", max(len(entries) + extra, 0))
    for tag, kind, count, value in entries:
        # Values of more than four bytes lie elsewhere; there the graph does not look for an orientation.
        count = 1 if kind in (4, 9, 13) else count
        width = {1: "B", 6: "B", 7: "B", 3: "H", 8: "H"}.get(kind, "L")
        field = struct.pack(f"{order}{width}", value)
        directory += struct.pack(f"{order}HHL", tag, kind, count) + field.ljust(4, b"\0")
    content = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HL", mark, start) + directory + b"\0" * 4
    content = content[: len(content) - cut]
    data = photographs.with_exif(PLAIN, content)
    if mark != 43:  # a large TIFF, which no EXIF data is
        expected = orientation_by_pillow(content)
        assert int(orientation.of_jpeg(tf.constant(data))) == images.orientation(data) == expected


@pytest.mark.parametrize("order", "<>")
def test_an_orientation_of_more_than_four_bytes_is_none(order):
    entry = struct.pack(f"{order}HHHLL", 1, 0x0112, 4, 2, 6)  # two long integers, which lie elsewhere
    content = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HL", 42, 8) + entry + b"\0" * 4
    data = photographs.with_exif(PLAIN, content)
    assert (
        int(orientation.of_jpeg(tf.constant(data))) == images.orientation(data) == orientation_by_pillow(content) == 1
    )


def test_a_false_mark_turns_nothing():
    comment = photographs.segment(0xFE, b"Exif\0\0" + photographs.exif(6))
    jpeg = PLAIN[:2] + comment + PLAIN[2:]
    png = photographs.encoded(PHOTOGRAPH, "PNG") + b"eXIf" + photographs.exif(6)
    behind = photographs.encoded(PHOTOGRAPH) + photographs.segment(0xE1, b"Exif\0\0" + photographs.exif(6))
    for data in (jpeg, png, behind):
        assert pixels.decode(tf.constant(data)).shape == (32, 48, 3) == images.decode(data).shape


def test_a_forged_file_of_tiny_parts_is_given_up():
    data = b"\xff\xd8\xff\xe0\0\2" + b"\0" * 2**17 + photographs.segment(0xE1, b"Exif\0\0" + photographs.exif(6))
    assert int(orientation.of_jpeg(tf.constant(data))) == 1


def test_a_box_of_a_turned_jpeg_is_the_box_of_the_upright_picture():
    def box(shape):
        return tf.stack([shape[0] // 4, shape[1] // 8, 9, 17])

    for turn in photographs.ORIENTATIONS:
        data = photographs.encoded(PHOTOGRAPH, "JPEG", turn, subsampling=0)
        found = pixels.read_box(tf.constant(data), box, 3)
        expected = pixels.decode(tf.constant(data))[8:17, 6:23]
        assert found.shape == (9, 17, 3)
        assert np.abs(found.numpy().astype(int) - expected.numpy()).mean() < 4, turn  # a quicker inverse transform


@pytest.mark.parametrize("name", ["plain.jpg", "cmyk.jpg", "plain.png", "plain.webp", "packed.tiff"])
def test_a_box_of_any_file_is_read(name):
    data = tf.constant(ZOO[name])
    for channels in (1, 3):
        found = pixels.read_box(data, lambda shape: tf.stack([1, 2, shape[0] - 1, 5]), channels)
        assert found.shape == (images.decode(ZOO[name]).shape[0] - 1, 5, channels)


@pytest.mark.parametrize("name", ["plain.jpg", "plain.png", "still.gif", "plain.bmp", "plain.webp", "plain.avif"])
def test_the_limit_counts_pixels(name):
    data = ZOO[name]
    assert images.decode(data, max_pixels=48 * 32).shape
    with pytest.raises(ValueError, match=r"it is too large: (48 x 32|32 x 48) pixels, more than 1,535"):
        images.decode(data, max_pixels=48 * 32 - 1)
    assert pixels.read(tf.constant(data), max_pixels=48 * 32).shape
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError), match="too large"):
        pixels.read(tf.constant(data), max_pixels=48 * 32 - 1)


def test_webp_is_read_by_a_graph_that_says_so():
    for name, options in {"lossy": {}, "lossless": {"lossless": True}}.items():
        data = photographs.encoded(PHOTOGRAPH, "WEBP", **options)
        assert pixels.declared_size(tf.constant(data), webp=True).numpy().tolist() == [32, 48], name
        np.testing.assert_array_equal(pixels.decode(tf.constant(data), webp=True), images.decode(data))
        with pytest.raises(tf.errors.InvalidArgumentError, match="a format that is not supported"):
            pixels.decode(tf.constant(data))
    clear = ZOO["clear.webp"]
    assert pixels.declared_size(tf.constant(clear), webp=True).numpy().tolist() == [32, 48]
    np.testing.assert_array_equal(pixels.decode(tf.constant(clear), webp=True), images.decode(clear))
    with pytest.raises(tf.errors.InvalidArgumentError):  # an animation
        pixels.decode(tf.constant(ZOO["moving.webp"]), webp=True)


def test_large_images_are_decoded_by_pillow(monkeypatch):
    decoded = []
    decode = images.decode
    monkeypatch.setattr(images, "decode", lambda *arguments: decoded.append(arguments) or decode(*arguments))
    for large in (2**26, 1000):
        monkeypatch.setattr(pixels, "LARGE", large)
        np.testing.assert_array_equal(pixels.read(tf.constant(ZOO["plain.jpg"])), decode(ZOO["plain.jpg"]))
    assert len(decoded) == 1


def test_a_gif_s_first_frame_stands_on_black():
    still = Image.open(io.BytesIO(ZOO["still.gif"]))
    data = bytearray(ZOO["still.gif"])
    place = data.index(b",\0\0\0\0")
    data[place + 1 : place + 5] = struct.pack("<HH", 10, 6)  # the frame moves on the canvas
    found = images.decode(bytes(data))
    np.testing.assert_array_equal(found[6:, 10:], np.asarray(still.convert("RGB"))[:-6, :-10])
    assert not found[:6].any()
    assert not found[:, :10].any()
    np.testing.assert_array_equal(pixels.decode(tf.constant(bytes(data))), found)


def test_the_largest_photograph_of_a_phone():
    """Of 200 megapixels, stored turned; it takes 3 GB of memory."""
    picture = Image.new("RGB", (16_320, 12_240), (200, 60, 60))
    picture.paste((60, 60, 200), (0, 0, 8_000, 6_000))
    data = photographs.encoded(picture, orientation=6)
    del picture
    found = images.decode(data)
    assert found.shape == (12_240, 16_320, 3)
    for place, colour in (((0, 0), (60, 60, 200)), ((0, -1), (200, 60, 60)), ((-1, 0), (200, 60, 60))):
        assert np.abs(found[place].astype(int) - colour).max() <= 2
    preprocessing = Preprocessing(image_size=(16, 16))
    expected = pixels.apply(tf.constant(found), preprocessing)
    del found
    graph = tf.function(lambda data: decode_batch(data, preprocessing))
    # TensorFlow decodes it at half its size alone: within a level of 255.
    np.testing.assert_allclose(graph(tf.constant([data]))[0], expected, atol=1 / 127.5)
    with pytest.raises(ValueError, match="too large: 12,240 x 16,320 pixels, more than 1,000"):
        images.decode(data, max_pixels=1000)
