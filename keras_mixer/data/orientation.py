"""Reads the EXIF orientation of encoded images and turns pixels upright, with TensorFlow operations alone.

EXIF data is a small TIFF file (CIPA DC-008, section 4.5) in a segment or chunk of the image. An image whose EXIF data
cannot be read counts as upright, as in Pillow.
"""

import functools
from collections.abc import Callable

import tensorflow as tf

_TAG = 0x0112
# Size in bytes of a value of each TIFF type; 0 for types that are not integers.
_WIDTHS = (0, 0, 0, 2, 4, 0, 1, 0, 2, 4, 0, 0, 0, 4, 0)
# Largest number of parts (segments or chunks) that are followed. A forged file of tiny parts must not take minutes.
_MAX_PARTS = 2**14
_END = 2**62

# Regular expression for the mark that a file with EXIF data must contain, by format.
JPEG_MARK, PNG_MARK, WEBP_MARK = r"Exif\x00\x00", "eXIf", "EXIF"
# Maps the offset of a part to the offset of the next part, and the start and length of the EXIF data, 0 if not found.
Step = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]


# Steps that few images need are traced as separate functions. Inlined, they would slow the pipeline for every image.
not_inlined = functools.partial(tf.function, autograph=False, experimental_attributes={"_noinline": True})
not_inlined_of_bytes = functools.partial(not_inlined, input_signature=[tf.TensorSpec((), tf.string)])  # traced once


def lacks(encoded: tf.Tensor, mark: str) -> tf.Tensor:
    """Returns whether a file cannot have EXIF data. This test is far cheaper than parsing the file."""
    unmarked = tf.strings.regex_replace(encoded, mark, "", replace_global=False)
    return tf.strings.length(unmarked) == tf.strings.length(encoded)


@not_inlined_of_bytes
def of_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the orientation in the first EXIF segment of a JPEG, int32 from 1 to 8."""

    def step(at):
        head = bytes_at(encoded, at, 10)
        marked, marker = head[0] == 0xFF, head[1]
        size = number(head[2:4])
        alone = (marker == 0) | (marker == 0x01) | ((marker >= 0xD0) & (marker <= 0xD8))
        ahead = choose(~marked | (marker == 0xFF), 1, choose(alone, 2, 2 + size))  # junk and padding are skipped
        over = marked & ((marker == 0xD9) | (marker == 0xDA))  # the pixels begin
        is_exif = marked & (marker == 0xE1) & tf.reduce_all(head[4:] == [*b"Exif\0\0"])
        return choose(over, _END, at + ahead), at + 10, choose(is_exif, tf.maximum(size - 8, 0), 0)

    return _orientation(_found(encoded, 2, step))


@not_inlined_of_bytes
def of_png(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the orientation in the eXIf chunk of a PNG, before or after its pixels, int32 from 1 to 8."""

    def step(at):
        head = bytes_at(encoded, at, 8)
        size = number(head[:4])
        over = tf.reduce_all(head[4:] == [*b"IEND"])
        is_exif = tf.reduce_all(head[4:] == [*b"eXIf"])
        return choose(over, _END, at + 12 + size), at + 8, choose(is_exif, size, 0)

    return _orientation(_found(encoded, 8, step))


@not_inlined_of_bytes
def of_webp(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the orientation in the EXIF chunk of a WebP, int32 from 1 to 8."""

    def step(at):
        head = bytes_at(encoded, at, 8)
        size = number(head[4:][::-1])
        return at + 8 + size + size % 2, at + 8, choose(tf.reduce_all(head[:4] == [*b"EXIF"]), size, 0)

    return _orientation(tf.strings.regex_replace(_found(encoded, 12, step), r"^Exif\x00\x00", ""))


def upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns or mirrors stored pixels `(height, width, channels)` so that the image is upright."""

    def turn():
        turned = tf.cond(orientation >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
        for axis, mirrored in enumerate(([3, 4, 7, 8], [2, 3, 6, 7])):
            flip = tf.reduce_any(orientation == mirrored)
            turned = tf.cond(
                flip, lambda turned=turned, axis=axis: tf.reverse(turned, [axis]), lambda turned=turned: turned
            )
        return turned

    return tf.ensure_shape(tf.cond(orientation > 1, turn, lambda: image), (None, None, image.shape[2]))


def stored_window(window: tf.Tensor, size: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Finds the window of the stored image that `upright` turns into a window of the upright one.

    Args:
        window: Top, left, height and width in the upright image, int32 `(4,)`.
        size: Height and width of the upright image, int32 `(2,)`.
        orientation: The EXIF orientation.

    Returns:
        Top, left, height and width in the stored image.
    """
    begin, extent = window[:2], window[2:]
    mirrored = tf.reduce_any(orientation == [[3, 4, 7, 8], [2, 3, 6, 7]], axis=1)
    begin = tf.where(mirrored, size - begin - extent, begin)
    turned = tf.concat([begin[::-1], extent[::-1]], 0)
    return tf.where(orientation >= 5, turned, tf.concat([begin, extent], 0))


def bytes_at(data: tf.Tensor, at: tf.Tensor | int, size: int) -> tf.Tensor:
    """Returns `size` bytes as int64; beyond the end they are 0."""
    start = tf.minimum(tf.cast(at, tf.int64), tf.cast(tf.strings.length(data), tf.int64))
    part = tf.strings.substr(data, start, tf.constant(size, tf.int64))
    return tf.cast(tf.io.decode_raw(part, tf.uint8, fixed_length=size), tf.int64)


def choose(condition: tf.Tensor, yes: tf.Tensor | int, no: tf.Tensor | int) -> tf.Tensor:
    """Does what `tf.where` does, in int64 and also with Python's integers."""
    return tf.where(condition, tf.cast(yes, tf.int64), tf.cast(no, tf.int64))


def number(digits: tf.Tensor) -> tf.Tensor:
    """Returns the integer that big-endian bytes stand for."""
    count = digits.shape[-1]
    return tf.reduce_sum(digits * [256 ** (count - 1 - place) for place in range(count)], axis=-1)


def _found(encoded: tf.Tensor, start: int, step: Step) -> tf.Tensor:
    """Follows the parts of a file to its EXIF data. Returns the data, or no bytes if there are none."""
    length = tf.cast(tf.strings.length(encoded), tf.int64)

    def follow(at, _):
        after, begin, size = step(at)
        return after, tf.strings.substr(encoded, tf.minimum(begin, length), size)

    _, data = tf.while_loop(
        lambda at, data: (at < length) & (tf.strings.length(data) == 0),
        follow,
        (tf.constant(start, tf.int64), tf.constant(b"")),
        maximum_iterations=_MAX_PARTS,
    )
    return data


def _orientation(tiff: tf.Tensor) -> tf.Tensor:
    """Reads the orientation from the first directory of a TIFF file: 1 if it has none."""
    head = bytes_at(tiff, 0, 8)
    little = head[0] == ord("I")
    known = (
        ((head[0] == ord("I")) | (head[0] == ord("M")))
        & (head[0] == head[1])
        & (head[2] + head[3] == 42)
        & (head[2] * head[3] == 0)
    )

    def ordered(digits):
        return number(tf.where(little, digits[..., ::-1], digits))

    start = ordered(head[4:])
    held = tf.maximum((tf.cast(tf.strings.length(tiff), tf.int64) - start - 2) // 12, 0)  # it may be truncated
    count = tf.minimum(ordered(bytes_at(tiff, start, 2)), held)
    directory = tf.strings.substr(tiff, choose(count > 0, start + 2, 0), 12 * count)
    entries = tf.cast(tf.reshape(tf.io.decode_raw(directory, tf.uint8), (-1, 12)), tf.int64)
    kinds = tf.clip_by_value(ordered(entries[:, 2:4]), 0, len(_WIDTHS) - 1)
    widths = tf.gather(tf.constant(_WIDTHS, tf.int64), kinds)
    sizes = widths * ordered(entries[:, 4:8])
    usable = (ordered(entries[:, :2]) == _TAG) & (sizes > 0) & (sizes <= 4)
    # The first value takes the leftmost of the four bytes.
    shift = choose(little, 0, 8 * (4 - widths))
    kept = choose(little, tf.bitwise.left_shift(tf.ones_like(widths), 8 * widths) - 1, 2**32 - 1)
    values = tf.bitwise.bitwise_and(tf.bitwise.right_shift(ordered(entries[:, 8:]), shift), kept)
    value = tf.concat([tf.boolean_mask(values, usable), [1]], 0)[0]
    return tf.where(known & (value >= 1) & (value <= 8), tf.cast(value, tf.int32), 1)
