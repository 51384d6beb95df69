"""The first frame of a GIF as a PNG, so that one operation decodes every format, to colour and to grey.

TensorFlow decodes a GIF to three channels only, and all of its frames to keep one. Here the file's blocks are followed
to the end of the first frame, whose size is then known before anything is decompressed, and the rest is left out.
"""

from typing import NamedTuple

import tensorflow as tf

# Of up to 255 bytes each, 32 MB together: a file of many tiny ones may not hold a server up for minutes.
MAX_BLOCKS = 2**17

_EXTENSION, _FRAME, _TRAILER = 0x21, 0x2C, b";"
_HEADER_SIZE, _FRAME_HEADER_SIZE = 13, 10
_FIRST_FLAGS = 10  # of the file's own header


class FirstFrame(NamedTuple):
    """Where the first frame of a GIF lies and how large it is, scalar tensors.

    Attributes:
        start: Byte at which its header begins.
        end: Byte after its last block; beyond the file where this is cut short, holds no frame, or has more than
            `MAX_BLOCKS` blocks up to there.
        height: Rows, int64.
        width: Columns, int64.
    """

    start: tf.Tensor
    end: tf.Tensor
    height: tf.Tensor
    width: tf.Tensor


def is_gif(encoded: tf.Tensor) -> tf.Tensor:
    """Whether the bytes, a scalar string, begin as a GIF does."""
    return tf.strings.substr(encoded, 0, 4) == b"GIF8"


# Compiled, for eagerly every block would cost a call of Python.
@tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
def first_frame(encoded: tf.Tensor) -> FirstFrame:
    """Finds the first frame of a GIF and decompresses nothing (GIF89a specification, section 12 onwards)."""
    length = tf.strings.length(encoded)
    data = tf.concat([tf.io.decode_raw(encoded, tf.uint8), [0]], axis=0)

    def byte(at):
        return tf.cast(data[tf.minimum(at, length)], tf.int32)  # beyond the end: the 0 that ends a run of blocks

    def colour_table_size(flags):
        return tf.where(flags >= 0x80, tf.bitwise.left_shift(6, flags & 7), 0)

    def after_blocks(at, blocks):
        """Each block is its size and as many bytes; the last one's size is 0."""
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
    # One byte between the colours and the blocks says how these are coded.
    end, blocks = after_blocks(start + _FRAME_HEADER_SIZE + colour_table_size(flags) + 1, blocks)
    found = (byte(start) == _FRAME) & (blocks <= MAX_BLOCKS)
    width, height = (tf.cast(byte(start + place) + 256 * byte(start + place + 1), tf.int64) for place in (5, 7))
    return FirstFrame(start, tf.where(found, end, length + 1), height, width)


def first_frame_as_png(encoded: tf.Tensor) -> tf.Tensor:
    """Writes the first frame of a GIF, without its place on a larger canvas, as a PNG of the same colours.

    Raises:
        tf.errors.InvalidArgumentError: When the operation runs, if the file is cut short or damaged.
    """
    start, end, _, _ = first_frame(encoded)
    whole = tf.debugging.Assert(end <= tf.strings.length(encoded), ["The GIF is cut short or holds no frame."])
    with tf.control_dependencies([whole]):
        before, after = tf.strings.substr(encoded, 0, start + 1), tf.strings.substr(encoded, start + 5, end - start - 5)
    # The decoder would clip a frame that does not lie at 0, 0.
    alone = tf.strings.join([before, tf.constant(b"\0" * 4), after, tf.constant(_TRAILER)])
    return tf.io.encode_png(tf.io.decode_gif(alone)[0], compression=0)
