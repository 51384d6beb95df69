"""From the bytes of an image file to the input of a model, in TensorFlow and without randomness.

Every function works eagerly, inside `tf.data`, and inside a `tf.function` that is exported.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from keras_mixer.preprocessing import Preprocessing

# Length of an image, as a multiple of its crop with margin, beyond which only the middle is read.
LONGEST = 4
# Pixels that the widest kernel, lanczos5, reads on each side, counted in the coarser of the two images.
REACH = 5
# Number of values in a half-resized image beyond which the width is resized first.
UNFINISHED_LIMIT = 2**24
# Blocks of a GIF that are followed, up to 255 bytes each and 32 MB together. Without a limit, a file of many tiny
# blocks could keep a server busy for minutes.
MAX_BLOCKS = 2**17

_EXTENSION, _FRAME, _TRAILER = 0x21, 0x2C, b";"  # the first byte of a GIF's blocks
_HEADER_SIZE, _FRAME_HEADER_SIZE = 13, 10
_FIRST_FLAGS = 10  # position in the file's header of the size of the colour table


def preprocess(encoded: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Turns encoded bytes, a scalar string, into the model's input: float32 `(height, width, channels)`."""
    return apply(decode(encoded, preprocessing.channels), preprocessing)


def decode(encoded: tf.Tensor, channels: int = 3) -> tf.Tensor:
    """Decodes a JPEG, PNG or GIF (its first frame) to uint8 `(any height, any width, channels)`.

    The orientation in EXIF data is not applied, and transparency is dropped. The operation fails on other bytes.
    """
    if channels not in (1, 3):
        raise ValueError(f"Image files are decoded to 3 channels (RGB) or 1 (grey), but the model takes {channels}.")
    encoded = tf.convert_to_tensor(encoded)
    encoded = tf.cond(is_gif(encoded), lambda: first_frame_as_png(encoded), lambda: encoded)
    # One operation reads JPEG and PNG. Pillow and other servers use the accurate inverse DCT too.
    image = tf.io.decode_jpeg(encoded, channels=channels, dct_method="INTEGER_ACCURATE")
    return tf.ensure_shape(image, (None, None, channels))


def apply(image: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Turns a decoded image of any size and real dtype, with values in [0, 255], into the model's input."""
    return normalize(fit(image, preprocessing), preprocessing)


def fit(image: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Resizes (and crops) an image to float32 `(*image_size, channels)`, values still in [0, 255]."""
    height, width = preprocessing.image_size
    if preprocessing.resize == "direct":
        fitted = resample(image, preprocessing.image_size, preprocessing.interpolation)
    else:
        size = tf.cast(tf.shape(image)[:2], tf.float32)
        # One factor for each axis.
        scale = tf.constant(preprocessing.image_size, tf.float32) * (1 / preprocessing.crop_share) / size
        if preprocessing.resize == "crop":
            scale = tf.reduce_max(scale)
            image = _middle(image, scale, preprocessing)
            size = tf.cast(tf.shape(image)[:2], tf.float32)
        # Rounding must not make the image smaller than the crop.
        resized = tf.maximum(tf.cast(tf.round(size * scale), tf.int32), preprocessing.image_size)
        top, left = (resized[0] - height) // 2, (resized[1] - width) // 2
        fitted = resample(image, resized, preprocessing.interpolation)[top : top + height, left : left + width]
    return tf.ensure_shape(fitted, preprocessing.input_shape)


def resample(image: tf.Tensor, size, interpolation: str) -> tf.Tensor:
    """Resizes to `size` with this interpolation, float32 in [0, 255]."""

    def resize(source, to):
        return tf.cast(tf.image.resize(source, to, method=interpolation, antialias=True), tf.float32)

    # TensorFlow resizes the height first. If the height grows and the width shrinks, the image between the two steps
    # could take gigabytes; the width then goes first.
    given = tf.shape(image)
    unfinished = tf.cast(size[0], tf.int64) * tf.cast(given[1], tf.int64) * image.shape[2]
    resized = tf.cond(
        (given[0] < size[0]) & (unfinished > UNFINISHED_LIMIT),
        lambda: resize(resize(image, (given[0], size[1])), size),
        lambda: resize(image, size),
    )
    # Cubic and Lanczos kernels overshoot at edges.
    return tf.clip_by_value(resized, 0.0, 255.0)


def _middle(image: tf.Tensor, scale: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Cuts off both ends of a very long image, because the crop does not show them; photographs stay whole.

    Resizing a line of pixels until its shorter side fills the crop would take gigabytes.
    """
    size = tf.shape(image)[:2]
    longest = LONGEST / preprocessing.crop_share * tf.constant(preprocessing.image_size, tf.float32) / scale
    longest += 2 * REACH * tf.maximum(1.0, 1.0 / scale)
    # Both ends lose the same, so that the centre stays in place.
    cut = tf.maximum(size - tf.cast(tf.math.ceil(longest), tf.int32), 0) // 2
    return image[cut[0] : size[0] - cut[0], cut[1] : size[1] - cut[1]]


def normalize(pixels: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Scales `(..., channels)` from [0, 255] to the model's range, float32."""
    mean, std = tf.constant(preprocessing.mean, tf.float32), tf.constant(preprocessing.std, tf.float32)
    return (tf.cast(pixels, tf.float32) - 255.0 * mean) / (255.0 * std)


def attempt(function: Callable[[tf.Tensor], tf.Tensor], value: tf.Tensor, otherwise: tf.Tensor):
    """Returns `function(value)` if that succeeds, else `otherwise`: a `try` inside a graph.

    Any error of the function's operations counts as failure. If the shape of its result is static, `otherwise` has that
    shape. The second result is a bool scalar: whether `function` succeeded.
    """
    no_autograph = tf.autograph.experimental.do_not_convert
    tried = tf.data.Dataset.from_tensors(value).map(no_autograph(lambda argument: (function(argument), True)))
    failed = tf.data.Dataset.from_tensors((otherwise, False))
    return first_success(tried, failed)


def first_success(tried: tf.data.Dataset, otherwise: tf.data.Dataset):
    """Returns the first element of `tried`; if that fails, runs `otherwise` and returns its first element.

    One call costs about 0.1 ms whatever it tries, so it should try many images at once.
    """
    # `Dataset.reduce` would be shorter to write and a hundred times slower.
    return tried.ignore_errors().concatenate(otherwise).take(1).get_single_element()


class FirstFrame(NamedTuple):
    """The place and the size of the first frame of a GIF, as scalar tensors.

    If the file is cut short, holds no frame, or has more than `MAX_BLOCKS` blocks, `end` lies beyond the file.
    """

    start: tf.Tensor  # byte at which the frame's header begins
    end: tf.Tensor  # byte after the frame's last block
    height: tf.Tensor  # rows, int64
    width: tf.Tensor  # columns, int64


def is_gif(encoded: tf.Tensor) -> tf.Tensor:
    """Returns whether the bytes, a scalar string, begin with the mark of a GIF."""
    return tf.strings.substr(encoded, 0, 4) == b"GIF8"


# A graph, because eager execution would cost a call of Python for each block.
@tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
def first_frame(encoded: tf.Tensor) -> FirstFrame:
    """Finds the first frame of a GIF without decompressing it (GIF89a specification, from section 12 on)."""
    length = tf.strings.length(encoded)
    data = tf.concat([tf.io.decode_raw(encoded, tf.uint8), [0]], axis=0)

    def byte(at):
        return tf.cast(data[tf.minimum(at, length)], tf.int32)  # beyond the end: the 0 that ends a run of blocks

    def colour_table_size(flags):
        return tf.where(flags >= 0x80, tf.bitwise.left_shift(6, flags & 7), 0)

    def after_blocks(at, blocks):
        """Follows blocks, each a size and as many bytes, up to a block of size 0."""
        at, blocks = tf.while_loop(
            lambda at, blocks: (byte(at) > 0) & (blocks < MAX_BLOCKS),
            lambda at, blocks: (at + 1 + byte(at), blocks + 1),
            (at, blocks),
        )
        return at + 1, blocks + 1

    start, blocks = tf.while_loop(
        lambda at, blocks: (byte(at) == _EXTENSION) & (blocks < MAX_BLOCKS),
        lambda at, blocks: after_blocks(at + 2, blocks),
        (_HEADER_SIZE + colour_table_size(byte(_FIRST_FLAGS)), 0),
    )
    flags = byte(start + _FRAME_HEADER_SIZE - 1)
    # The byte between the colours and the blocks describes their coding.
    end, blocks = after_blocks(start + _FRAME_HEADER_SIZE + colour_table_size(flags) + 1, blocks)
    found = (byte(start) == _FRAME) & (blocks <= MAX_BLOCKS)
    width, height = (tf.cast(byte(start + place) + 256 * byte(start + place + 1), tf.int64) for place in (5, 7))
    return FirstFrame(start, tf.where(found, end, length + 1), height, width)


def first_frame_as_png(encoded: tf.Tensor) -> tf.Tensor:
    """Writes the first frame of a GIF, without the canvas around it, as a PNG of the same colours.

    One operation can then decode every format to colour or grey. TensorFlow decodes GIFs only to three channels, and
    always all frames. The operation fails if the file is cut short or damaged.
    """
    start, end, _, _ = first_frame(encoded)
    whole = tf.debugging.Assert(end <= tf.strings.length(encoded), ["The GIF is cut short or holds no frame."])
    with tf.control_dependencies([whole]):
        before, after = tf.strings.substr(encoded, 0, start + 1), tf.strings.substr(encoded, start + 5, end - start - 5)
    # The decoder would clip a frame that does not lie at 0, 0.
    alone = tf.strings.join([before, tf.constant(b"\0" * 4), after, tf.constant(_TRAILER)])
    return tf.io.encode_png(tf.io.decode_gif(alone)[0], compression=0)
