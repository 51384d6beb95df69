import io
import struct
import zlib

import numpy as np
import photographs
import pytest
import tensorflow as tf
from image_headers import gif_header
from PIL import Image

from keras_mixer.artefacts.decoding import DECODED_AT_ONCE, decode_batch
from keras_mixer.data.pixels import apply
from keras_mixer.preprocessing import Preprocessing
from keras_mixer.serving.server.servable import check_image

PREPROCESSING = Preprocessing(image_size=(16, 24))


@tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
def decode(image_bytes):
    return decode_batch(image_bytes, PREPROCESSING)


def encoded(mode: str, file_format: str, **options) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    sixteen_bits = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    image = sixteen_bits if mode == "I;16" else Image.fromarray(pixels).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def png_with_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


GOOD = encoded("RGB", "PNG")
ZOO = photographs.zoo()


def test_each_image_is_preprocessed_as_on_its_own():
    images = [GOOD, encoded("RGB", "JPEG"), encoded("L", "PNG"), encoded("RGB", "GIF")]
    expected = [PREPROCESSING(tf.constant(image)) for image in images]
    np.testing.assert_allclose(decode(tf.constant(images)), expected, atol=1e-6)


def test_a_model_of_one_channel_reads_every_format():
    grey = Preprocessing(image_size=(16, 24), channels=1)
    decode_grey = tf.function(lambda images: decode_batch(images, grey))
    images = [encoded(mode, file_format) for mode in ("RGB", "L") for file_format in ("PNG", "JPEG", "GIF")]
    found = decode_grey(tf.constant(images))
    np.testing.assert_allclose(found, [grey(tf.constant(image)) for image in images], atol=1e-6)
    np.testing.assert_array_equal(found[3], found[5])  # 256 greys are a palette without loss


@pytest.mark.parametrize("mode", ["RGBA", "P", "I;16", "L", "LA", "1"])
def test_pngs_of_every_kind_are_read_as_rgb(mode):
    image = Image.open(io.BytesIO(encoded(mode, "PNG")))
    if mode == "I;16":
        expected = np.repeat((np.asarray(image) // 257)[..., None], 3, axis=2).astype(np.uint8)
    elif mode == "RGBA":
        expected = np.asarray(image)[..., :3]
    else:
        expected = np.asarray(image.convert("RGB"))
    found = decode(tf.constant([encoded(mode, "PNG")]))[0]
    np.testing.assert_allclose(found, apply(tf.constant(expected), PREPROCESSING), atol=1e-5)


@pytest.mark.parametrize(
    ("mode", "options"), [("L", {}), ("CMYK", {}), ("RGB", {"progressive": True}), ("RGB", {"subsampling": 0})]
)
def test_jpegs_of_every_kind_are_read_as_rgb(mode, options):
    data = encoded(mode, "JPEG", **options)
    expected = apply(tf.constant(np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))), PREPROCESSING)
    # CMYK has no exact conversion; decoders round chroma differently.
    tolerance = 0.1 if mode == "CMYK" else 0.03
    assert np.abs(decode(tf.constant([data]))[0] - expected).max() < tolerance


UNKNOWN = r"Image 1 of the request is neither JPEG nor PNG nor GIF nor a plain BMP"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"", rf"{UNKNOWN} \(0 bytes\)"),
        (b"not an image", rf"{UNKNOWN} \(12 bytes\)"),
        (photographs.encoded(photographs.photograph(), "WEBP"), UNKNOWN),
        (ZOO["bits.bmp"], UNKNOWN),
        (encoded("RGB", "GIF")[:5], UNKNOWN),
        (encoded("RGB", "JPEG")[:300], r"Image 1 of the request is cut short \(300 bytes\)"),
        (encoded("RGB", "JPEG")[:3], r"Image 1 of the request is cut short \(3 bytes\)"),
        (encoded("RGB", "GIF")[:-10], "Invalid GIF data"),
        (gif_header(8, 8, canvas=(30_000, 30_000)), "Image 1 of the request is too large: 30000 x 30000 pixels"),
        (GOOD[:200], r"Image 1 of the request is cut short \(200 bytes\)"),
        (GOOD[:8], r"Image 1 of the request is cut short \(8 bytes\)"),
        (
            png_with_header(30_000, 30_000),
            "Image 1 of the request is too large: 30000 x 30000 pixels, more than 268435456",
        ),
        (png_with_header(2**31 - 1, 2**31 - 1), "Image 1 of the request is too large"),
        (GOOD[:100] + b"abc" + GOOD[103:], "Invalid PNG data"),
    ],
)
def test_a_bad_image_fails_the_request_and_says_which(bad, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        decode(tf.constant([GOOD, bad, GOOD]))


def test_what_follows_the_end_of_an_image_is_not_looked_at():
    """The checks before the decoder are no stricter than it."""
    for image in (GOOD, encoded("RGB", "JPEG"), encoded("RGB", "GIF"), encoded("RGB", "BMP")):
        whole, more = decode(tf.constant([image, image + b"\0\0\0\x18ftypmp42" * 50]))
        np.testing.assert_array_equal(more, whole)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP"])
def test_no_check_is_stricter_than_tensorflow_s_decoder(kind):
    """Neither those of the graph nor those of the server, on files whose bytes were changed."""
    random = np.random.default_rng(7)
    sound = encoded("RGB", kind)
    for number in range(40):
        data = bytearray(sound)
        # The headers of GIF and BMP declare kinds that other checks refuse, because TensorFlow takes them for others.
        first, end = (60, len(data)) if kind in ("GIF", "BMP") else (0, (60, len(data))[number % 2])
        for position in random.integers(first, end, 1 + number % 2):
            data[position] = random.integers(0, 256)
        try:
            tf.io.decode_image(bytes(data), channels=3, expand_animations=False)
        except tf.errors.InvalidArgumentError:
            continue
        assert decode(tf.constant([bytes(data)])).shape == (1, 16, 24, 3)
        check_image(bytes(data), 2**28)


def test_the_limit_and_webp_are_set_with_the_graph():
    webp = photographs.encoded(photographs.photograph(0, (40, 30)), "WEBP")
    graph = tf.function(lambda images: decode_batch(images, PREPROCESSING, max_pixels=1200, webp=True))
    assert graph(tf.constant([GOOD, webp])).shape == (2, 16, 24, 3)
    message = "Image 0 of the request is too large: 31 x 40 pixels, more than 1200, the limit that was set at export"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        graph(tf.constant([photographs.encoded(photographs.photograph(0, (40, 31)))]))
    for bad in (b"not an image", ZOO["moving.webp"]):  # TensorFlow's decoder does not stand animations
        with pytest.raises(
            tf.errors.InvalidArgumentError, match="neither JPEG nor PNG nor GIF nor WebP nor a plain BMP"
        ):
            graph(tf.constant([bad]))


def test_no_image_is_an_empty_batch():
    assert decode(tf.constant([], tf.string)).shape == (0, 16, 24, 3)


def test_few_images_are_decoded_at_once():
    graph = decode.get_concrete_function().graph.as_graph_def()
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    loops = [node.attr["parallel_iterations"].i for node in nodes if "While" in node.op]
    assert {DECODED_AT_ONCE, 1} <= set(loops)  # 1 where one of them is among the largest


def test_random_corruptions_give_an_error_or_an_image():
    random = np.random.default_rng(5)
    outcomes = set()
    for image in (GOOD, encoded("RGB", "JPEG"), encoded("RGB", "GIF")):
        for _ in range(40):
            data = bytearray(image)
            for position in random.integers(0, len(data), 3):
                data[position] = random.integers(0, 256)
            corrupt = bytes(data[: random.integers(1, len(data) + 1)]) if random.random() < 0.3 else bytes(data)
            try:
                outcomes.add(tuple(decode(tf.constant([corrupt])).shape))
            except tf.errors.InvalidArgumentError:
                outcomes.add("refused")
    assert outcomes == {(1, 16, 24, 3), "refused"}
