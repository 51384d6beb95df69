"""Decodes encoded images inside an exported graph, with errors that name the image of the batch.

This module needs TensorFlow, and is imported where a graph is made.
"""

import tensorflow as tf

from keras_mixer.data.pixels import first_frame, is_gif
from keras_mixer.images import MAX_PIXELS, PNG_START
from keras_mixer.preprocessing import Preprocessing

# Images of a batch that are decoded at once. TensorFlow's default of ten could hold ten of the largest in memory.
DECODED_AT_ONCE = 4

_JPEG_START = b"\xff\xd8\xff"
_PNG_END = b"IEND"


def decode_batch(image_bytes: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Decodes, resizes and scales a batch of encoded images, inside a `tf.function`.

    Args:
        image_bytes: Encoded JPEG, PNG or GIF images, strings `(batch,)`. A GIF gives its first frame.
        preprocessing: Maps one encoded image to a model input.

    Returns:
        Model inputs, float32 `(batch, height, width, channels)`.

    Raises:
        tf.errors.InvalidArgumentError: When the graph runs, if an image is not a JPEG, PNG or GIF, is cut short, or is
            larger than `MAX_PIXELS`. The message names its index in the batch.
    """

    def model_input(indexed):
        index, encoded = indexed
        with tf.control_dependencies(_complaints(index, encoded)):
            return preprocessing(tf.identity(encoded))

    indices = tf.range(tf.size(image_bytes))
    return tf.map_fn(
        model_input,
        (indices, image_bytes),
        parallel_iterations=DECODED_AT_ONCE,
        fn_output_signature=tf.TensorSpec(preprocessing.input_shape, tf.float32),
    )


def _complaints(index: tf.Tensor, encoded: tf.Tensor) -> list[tf.Operation]:
    """Returns checks that fail before the decoder does, because its errors do not say which image is at fault."""
    is_jpeg = tf.strings.substr(encoded, 0, len(_JPEG_START)) == _JPEG_START
    is_png = tf.strings.substr(encoded, 0, len(PNG_START)) == PNG_START
    length = tf.strings.length(encoded)
    known = _require(
        is_jpeg | is_png | is_gif(encoded),
        "Image {} of the request is neither JPEG nor PNG nor GIF ({} bytes).",
        index,
        length,
    )
    with tf.control_dependencies([known]):
        data = tf.io.decode_raw(encoded, tf.uint8)
        formats = [
            (is_jpeg, lambda: _jpeg_end_and_size(encoded, data)),
            (is_png, lambda: _png_end_and_size(encoded, data)),
        ]
        has_end, height, width = tf.case(formats, default=lambda: _gif_end_and_size(encoded))
        complete = _require(has_end, "Image {} of the request is cut short ({} bytes).", index, length)
    with tf.control_dependencies([complete]):
        small_enough = _require(
            height * width <= MAX_PIXELS,
            f"Image {{}} of the request is too large: {{}} x {{}} pixels, more than {MAX_PIXELS}.",
            index,
            height,
            width,
        )
    return [small_enough]


def _require(condition: tf.Tensor, template: str, *values: tf.Tensor) -> tf.Operation:
    return tf.debugging.Assert(condition, [tf.strings.format(template, values)])


# Each of these returns whether the file has its end, and the height and width that it declares.


def _jpeg_end_and_size(encoded: tf.Tensor, data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    # Some writers append data after the end marker, so it need not be last.
    has_end = tf.reduce_any((data[:-1] == 0xFF) & (data[1:] == 0xD9))
    # Without an end there may be no size to read.
    size = tf.cond(has_end, lambda: tf.io.extract_jpeg_shape(encoded)[:2], lambda: tf.zeros(2, tf.int32))
    height, width = tf.unstack(tf.cast(size, tf.int64))
    return has_end, height, width


def _png_end_and_size(encoded: tf.Tensor, data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    # The last chunk is IEND and its checksum.
    length = tf.strings.length(encoded)
    tail = tf.strings.substr(encoded, tf.maximum(length - 8, 0), tf.minimum(length, 8))
    has_end = tf.strings.substr(tf.strings.join([tail, tf.constant(b"\0" * 8)]), 0, 4) == _PNG_END
    # Bytes 16 to 23 of the header are width, then height, big-endian. The string may end before, so it is padded.
    header = tf.cast(tf.concat([data, tf.zeros(24, tf.uint8)], 0)[16:24], tf.int64)
    place_values = tf.constant([1 << 24, 1 << 16, 1 << 8, 1], tf.int64)
    width, height = tf.unstack(tf.reduce_sum(tf.reshape(header, (2, 4)) * place_values, axis=1))
    return has_end, height, width


def _gif_end_and_size(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    frame = first_frame(encoded)
    return frame.end <= tf.strings.length(encoded), frame.height, frame.width
