"""Decodes images inside an exported graph, with errors that name the image in the batch.

This module needs TensorFlow. It is imported only when a graph is built.
"""

import functools

import tensorflow as tf

from keras_mixer.data import pixels
from keras_mixer.data.orientation import lacks
from keras_mixer.images import JPEG_START, LARGE, MAX_PIXELS, PNG_START
from keras_mixer.preprocessing import Preprocessing

# Images decoded in parallel. TensorFlow's default of ten could keep ten of the largest images in memory.
DECODED_AT_ONCE = 4

_JPEG_END = b"\xff\xd9"


def decode_batch(
    image_bytes: tf.Tensor, preprocessing: Preprocessing, *, max_pixels: int = MAX_PIXELS, webp: bool = False
) -> tf.Tensor:
    """Decodes, turns upright, resizes and scales a batch of encoded images, inside a `tf.function`.

    Args:
        image_bytes: Encoded JPEG, PNG, BMP or GIF images, strings `(batch,)`. A GIF gives its first frame.
        preprocessing: How an image becomes a model input.
        max_pixels: Largest number of pixels (height x width) of an image. If an image of the batch has more than 2**26
            pixels, the images are decoded one at a time.
        webp: Whether to read WebP images too. Animations are never read.

    Returns:
        Model inputs, float32 `(batch, height, width, channels)`.

    Raises:
        tf.errors.InvalidArgumentError: When the graph runs, if an image is of another format, damaged, or larger than
            `max_pixels`. The message names its index in the batch, unless only the decoder finds the damage.
    """

    def inputs(at_once: int):
        decode = functools.partial(pixels.decode, max_pixels=None, webp=webp, large=at_once == 1)
        return tf.map_fn(
            lambda encoded: pixels.preprocess(encoded, preprocessing, decode),
            image_bytes,
            parallel_iterations=at_once,
            fn_output_signature=tf.TensorSpec(preprocessing.input_shape, tf.float32),
        )

    counts = tf.map_fn(
        lambda indexed: _checked_pixels(indexed[0], indexed[1], max_pixels, webp),
        (tf.range(tf.size(image_bytes)), image_bytes),
        fn_output_signature=tf.TensorSpec((), tf.int64),
    )
    return tf.cond(tf.reduce_any(counts > LARGE), lambda: inputs(1), lambda: inputs(DECODED_AT_ONCE))


def _checked_pixels(index: tf.Tensor, encoded: tf.Tensor, max_pixels: int, webp: bool) -> tf.Tensor:
    """Returns the number of pixels that an image declares, or fails with a message that names the image.

    It accepts every image that the decoder can read.
    """

    def require(condition, text, *values):
        message = tf.strings.format(f"Image {{}} of the request {text}", (index, *values))
        return tf.control_dependencies([tf.debugging.Assert(condition, [message])])

    length = tf.strings.length(encoded)
    is_jpeg, is_png = (tf.strings.substr(encoded, 0, len(start)) == start for start in (JPEG_START, PNG_START))
    # Bytes after the end of the image are ignored.
    has_end = tf.case(
        [(is_jpeg, lambda: _has_jpeg_end(encoded)), (is_png, lambda: ~lacks(encoded, "IEND"))], default=lambda: True
    )
    with require(has_end, "is cut short ({} bytes).", length):
        height, width = tf.unstack(pixels.declared_size(tf.identity(encoded), webp=webp))
    known = f"is neither JPEG nor PNG nor GIF nor {'WebP nor ' if webp else ''}a plain BMP ({{}} bytes)."
    limit = f"is too large: {{}} x {{}} pixels, more than {max_pixels}, the limit that was set at export."
    with require(height * width > 0, known, length), require(height * width <= max_pixels, limit, height, width):
        return tf.identity(height * width)


def _has_jpeg_end(encoded: tf.Tensor) -> tf.Tensor:
    def search():
        data = tf.io.decode_raw(encoded, tf.uint8)
        return tf.reduce_any((data[:-1] == _JPEG_END[0]) & (data[1:] == _JPEG_END[1]))

    last = tf.strings.substr(encoded, tf.maximum(tf.strings.length(encoded) - 2, 0), 2)
    return tf.cond(last == _JPEG_END, lambda: True, search)
