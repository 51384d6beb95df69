import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_mixer.artefacts.decoding import DECODED_AT_ONCE, decode_batch
from keras_mixer.data.pixels import apply
from keras_mixer.preprocessing import Preprocessing

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


def gif_with_frame(width: int, height: int) -> bytes:
    canvas = struct.pack("<HHBBB", 1, 1, 0, 0, 0)  # says nothing of the frame
    return b"GIF89a" + canvas + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x01\x00\x00;"


GOOD = encoded("RGB", "PNG")


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


def test_a_jpeg_with_data_after_its_end_is_read():
    assert decode(tf.constant([encoded("RGB", "JPEG") + b"\0" * 1000])).shape == (1, 16, 24, 3)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"", r"Image 1 of the request is neither JPEG nor PNG nor GIF \(0 bytes\)"),
        (b"not an image", r"Image 1 of the request is neither JPEG nor PNG nor GIF \(12 bytes\)"),
        (encoded("RGB", "BMP"), "Image 1 of the request is neither JPEG nor PNG nor GIF"),
        (encoded("RGB", "JPEG")[:300], r"Image 1 of the request is cut short \(300 bytes\)"),
        (encoded("RGB", "JPEG")[:3], r"Image 1 of the request is cut short \(3 bytes\)"),
        (encoded("RGB", "GIF")[:-10], "Image 1 of the request is cut short"),
        (encoded("RGB", "GIF")[:7], "Image 1 of the request is cut short"),
        (gif_with_frame(9_000, 9_000), "Image 1 of the request is too large: 9000 x 9000 pixels"),
        (GOOD[:200], r"Image 1 of the request is cut short \(200 bytes\)"),
        (GOOD[:8], r"Image 1 of the request is cut short \(8 bytes\)"),
        (png_with_header(30_000, 30_000), "Image 1 of the request is too large: 30000 x 30000 pixels"),
        (png_with_header(2**31 - 1, 2**31 - 1), "Image 1 of the request is too large"),
        (GOOD[:100] + b"abc" + GOOD[103:], "Invalid PNG data"),
    ],
)
def test_a_bad_image_fails_the_request_and_says_which(bad, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        decode(tf.constant([GOOD, bad, GOOD]))


def test_few_images_are_decoded_at_once():
    graph = decode.get_concrete_function().graph.as_graph_def()
    loops = [node.attr["parallel_iterations"].i for node in graph.node if "While" in node.op]
    assert loops == [DECODED_AT_ONCE]


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
