"""The image operations of RandAugment, on one uint8 image `(height, width, channels)` of 1 or 3 channels.

They compute what Pillow's operations of the same names compute (`ImageOps`, `ImageEnhance`), which AutoAugment was
defined with, and keep the static shape. Grey images are defined throughout: `color` leaves them alone.
"""

import math

import tensorflow as tf

FILL = 128  # grey: what the paper's code puts where an image was moved away


def autocontrast(image: tf.Tensor) -> tf.Tensor:
    """Stretches each channel to the full range; a constant channel stays as it is."""
    low = tf.cast(tf.reduce_min(image, axis=(0, 1)), tf.float64)[:, tf.newaxis]
    high = tf.cast(tf.reduce_max(image, axis=(0, 1)), tf.float64)[:, tf.newaxis]
    scale = tf.where(high > low, 255.0 / tf.maximum(high - low, 1.0), 1.0)
    offset = tf.where(high > low, -low * scale, 0.0)
    # A table of 256 values in double precision costs nothing and rounds as Pillow does.
    return _look_up(_keys(image), scale * tf.range(256, dtype=tf.float64) + offset, image.shape)


def equalize(image: tf.Tensor) -> tf.Tensor:
    """Makes the histogram of each channel as flat as the grey levels allow."""
    channels = image.shape[-1]
    keys = _keys(image)
    histogram = tf.math.bincount(tf.reshape(keys, [-1]), minlength=256 * channels, maxlength=256 * channels)
    histogram = tf.reshape(histogram, (channels, 256))
    levels = tf.range(256)
    last = tf.reduce_max(tf.where(histogram > 0, levels, -1), axis=1)  # the brightest level in use
    step = (tf.reduce_sum(histogram, axis=1) - tf.gather(histogram, last, batch_dims=1))[:, tf.newaxis] // 255
    divisor = tf.maximum(step, 1)
    table = (tf.cumsum(histogram, axis=1, exclusive=True) + divisor // 2) // divisor
    return _look_up(keys, tf.where(step > 0, table, levels), image.shape)


def invert(image: tf.Tensor) -> tf.Tensor:
    """Negates every pixel."""
    return 255 - image


def posterize(image: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """Keeps the `bits` highest bits of every pixel, 1 to 8."""
    mask = tf.cast(256 - tf.bitwise.left_shift(1, 8 - bits), tf.uint8)
    return tf.bitwise.bitwise_and(image, mask)


def solarize(image: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """Inverts the pixels of at least `threshold`, 0 to 255."""
    # Of bytes, 255 - x is x with all bits flipped; TensorFlow selects bits several times faster than elements.
    return tf.bitwise.bitwise_xor(image, _all_bits(image >= tf.cast(threshold, tf.uint8)))


def solarize_add(image: tf.Tensor, addition: tf.Tensor, threshold: int = 128) -> tf.Tensor:
    """Brightens the pixels below `threshold` by `addition`, 0 to 255."""
    added = tf.minimum(255 - image, tf.cast(addition, tf.uint8))
    return image + tf.bitwise.bitwise_and(added, _all_bits(image < threshold))


def color(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Blends with the grey image: 0 is grey, 1 the image, above 1 more saturated."""
    return image if image.shape[-1] == 1 else _blend(_grey(image), image, factor)


def contrast(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Blends with the mean grey level: 0 is flat, 1 the image, above 1 more contrast."""
    mean = tf.floor(tf.reduce_mean(_grey(image)) + 0.5)
    return _blend(mean, image, factor)


def brightness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Blends with black: 0 is black, 1 the image, above 1 brighter."""
    return _blend(0.0, image, factor)


def sharpness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Blends with a smoothed image: 0 is smooth, 1 the image, above 1 sharper; the border stays as it is."""
    height, width, _ = image.shape
    if height < 3 or width < 3:
        return image
    pixels = tf.cast(image, tf.float32)
    rows = pixels[:-2] + pixels[1:-1] + pixels[2:]
    inner = pixels[1:-1, 1:-1]
    # The kernel ((1, 1, 1), (1, 5, 1), (1, 1, 1)) / 13.
    smooth = tf.floor((rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4.0 * inner) / 13.0 + 0.5)
    difference = tf.pad(smooth - inner, ((1, 1), (1, 1), (0, 0)))
    return _to_bytes(pixels + (1.0 - factor) * difference)


def rotate(image: tf.Tensor, degrees: tf.Tensor) -> tf.Tensor:
    """Rotates counter-clockwise about the centre, nearest neighbour."""
    height, width, _ = image.shape
    radians = degrees * (math.pi / 180.0)
    cos, sin = tf.cos(radians), tf.sin(radians)
    x, y = (width - 1) / 2, (height - 1) / 2
    return _project(image, [cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y])


def shear_x(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    """Moves row y by `level * y` pixels to the left."""
    return _project(image, [1.0, level, 0.0, 0.0, 1.0, 0.0])


def shear_y(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    """Moves column x by `level * x` pixels up."""
    return _project(image, [1.0, 0.0, 0.0, level, 1.0, 0.0])


def translate_x(image: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
    """Moves the image to the left."""
    return _project(image, [1.0, 0.0, pixels, 0.0, 1.0, 0.0])


def translate_y(image: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
    """Moves the image up."""
    return _project(image, [1.0, 0.0, 0.0, 0.0, 1.0, pixels])


def cutout(image: tf.Tensor, half: tf.Tensor, center: tf.Tensor) -> tf.Tensor:
    """Greys out the rectangle of half sides `half` (y, x) in pixels about `center` (y, x), clipped at the border."""
    height, width, channels = image.shape
    first, stop = center - half, center + half
    rows = tf.range(height)[:, tf.newaxis]
    columns = tf.range(width * channels) // channels
    inside = _all_bits((rows >= first[0]) & (rows < stop[0]) & (columns >= first[1]) & (columns < stop[1]))
    table = tf.reshape(image, (height, width * channels))
    kept = tf.bitwise.bitwise_and(table, tf.bitwise.invert(inside))
    return tf.reshape(kept + tf.bitwise.bitwise_and(inside, tf.constant(FILL, tf.uint8)), image.shape)


# Below, images are tables (height, width * channels) wherever a row vector meets them: TensorFlow broadcasts along a
# last axis of 3 many times more slowly.


def _keys(image: tf.Tensor) -> tf.Tensor:
    """`256 * channel + pixel`, int32 `(height, width * channels)`: the cell of a histogram or table."""
    height, width, channels = image.shape
    offsets = tf.tile(tf.range(channels) * 256, [width])
    return tf.cast(tf.reshape(image, (height, width * channels)), tf.int32) + offsets


def _look_up(keys: tf.Tensor, table: tf.Tensor, shape) -> tf.Tensor:
    """Replaces each pixel by `table[channel, pixel]`, clipped and truncated to a byte."""
    cells = tf.reshape(tf.cast(tf.clip_by_value(table, 0, 255), tf.uint8), [-1])
    return tf.reshape(tf.gather(cells, keys), shape)


def _all_bits(condition: tf.Tensor) -> tf.Tensor:
    """255 where the condition holds, else 0."""
    return tf.cast(condition, tf.uint8) * 255


def _grey(image: tf.Tensor) -> tf.Tensor:
    """Luma as Pillow computes it, float32 and repeated for every channel."""
    pixels = tf.cast(image, tf.float32)
    if image.shape[-1] == 1:
        return pixels
    # All sums are integers below 2**24, so float32 is exact.
    weights = tf.constant([[19595.0] * 3, [38470.0] * 3, [7471.0] * 3])
    weighted = tf.matmul(tf.reshape(pixels, (-1, 3)), weights)
    return tf.reshape(tf.floor((weighted + 32768.0) / 65536.0), image.shape)


def _blend(degenerate, image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    return _to_bytes(degenerate + factor * (tf.cast(image, tf.float32) - degenerate))


def _to_bytes(pixels: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.clip_by_value(pixels, 0.0, 255.0), tf.uint8)


def _project(image: tf.Tensor, coefficients) -> tf.Tensor:
    """Output pixel (x, y) is the input pixel nearest to (a x + b y + c, d x + e y + f), or grey outside.

    Gathering whole pixels takes a fraction of the time of `ImageProjectiveTransformV3`.
    """
    height, width, channels = image.shape
    a, b, c, d, e, f = coefficients
    x, y = tf.range(width, dtype=tf.float32), tf.range(height, dtype=tf.float32)[:, tf.newaxis]
    column = tf.cast(tf.floor(a * x + (b * y + (c + 0.5))), tf.int32)  # (height, width)
    row = tf.cast(tf.floor(d * x + (e * y + (f + 0.5))), tf.int32)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    pixels = tf.pad(tf.reshape(image, (height * width, channels)), ((0, 1), (0, 0)), constant_values=FILL)
    return tf.gather(pixels, tf.where(inside, row * width + column, height * width))
