"""Flips, and RandAugment (Cubuk et al., 2019) with the operations and the strength scale of the AutoAugment code.

The operations take one uint8 image `(height, width, channels)` of 1 or 3 channels and compute what Pillow's operations
of the same names compute (`ImageOps`, `ImageEnhance`). On grey images `color` does nothing.
On this scale 10 is the nominal greatest strength. Mixer's recipes use 15 and 20, and `arguments` computes what the
paper's code computed there.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_mixer.augmentation import Augmentation
from keras_mixer.extras import OnFirstUse

if TYPE_CHECKING:
    import jax
    import tensorflow as tf
else:
    tf, jax = OnFirstUse("tensorflow"), OnFirstUse("jax")

DRAWS_PER_LAYER = 4  # which operation, which sign, where (y, x)
FILL = 128  # the grey with which the paper's code fills the area that a moved image leaves


def arguments(magnitude: float) -> dict[str, float | None]:
    """Returns what each operation receives at a magnitude, before the random sign; None if it takes no argument.

    Rotation is in degrees, a shear in pixels per pixel. `translate_*` and `cutout` are shares of the image's side; the
    paper's code took 100 and 40 pixels of 224. Three operations do not extrapolate:

    - The threshold of `solarize` wraps around at 256, because that code compared bytes: the levels 10 and 20 invert the
      image, and level 15 solarizes at 128.
    - `posterize` keeps at least 1 bit, and all 8 bits from level 20 on.
    - `solarize_add` adds at most 255.
    """
    level = magnitude / 10.0
    return {
        **dict.fromkeys(("autocontrast", "equalize", "invert")),
        "rotate": 30.0 * level,
        "posterize": min(max(int(4 * level), 1), 8),
        "solarize": int(256 * level) % 256,
        **dict.fromkeys(("color", "contrast", "brightness", "sharpness"), 0.1 + 1.8 * level),
        **dict.fromkeys(("shear_x", "shear_y"), 0.3 * level),
        **dict.fromkeys(("translate_x", "translate_y"), 100 / 224 * level),
        "cutout": 40 / 224 * level,
        "solarize_add": min(int(110 * level), 255),
    }


NAMES = tuple(arguments(0.0))


def flip_and_randaugment(pixels: tf.Tensor, augmentation: Augmentation, seed: tf.Tensor) -> tf.Tensor:
    """Mirrors every other image, then applies RandAugment; a step of `keras_mixer.data.augmentation.steps`."""
    layers = augmentation.randaugment_layers
    if not (augmentation.flip or layers):
        return pixels
    draws = tf.random.stateless_uniform((1 + layers * DRAWS_PER_LAYER,), seed, alg="philox")
    if augmentation.flip:
        pixels = tf.cond(draws[0] < 0.5, lambda: tf.reverse(pixels, axis=[1]), lambda: pixels)
    return randaugment(pixels, tf.reshape(draws[1:], (layers, DRAWS_PER_LAYER)), augmentation.randaugment_magnitude)


def flip_and_randaugment_jax(pixels: jax.Array, augmentation: Augmentation, key: jax.Array) -> jax.Array:
    """The same in JAX."""
    layers = augmentation.randaugment_layers
    draws = jax.random.uniform(key, (1 + layers * DRAWS_PER_LAYER,))
    if augmentation.flip:
        pixels = jax.numpy.where(draws[0] < 0.5, pixels[:, ::-1], pixels)
    return randaugment_jax(pixels, draws[1:].reshape(layers, DRAWS_PER_LAYER), augmentation.randaugment_magnitude)


def randaugment(image: tf.Tensor, draws: tf.Tensor, magnitude: float) -> tf.Tensor:
    """Applies random operations in turn, each drawn from `NAMES` with equal chance.

    `draws` are uniform in [0, 1), float32 `(layers, DRAWS_PER_LAYER)`.
    """
    for layer in range(draws.shape[0]):
        image = _layer(image, draws[layer], magnitude)
    return image


def _layer(image: tf.Tensor, draws: tf.Tensor, magnitude: float) -> tf.Tensor:
    height, width, _ = image.shape
    sign = tf.where(draws[1] < 0.5, -1.0, 1.0)
    values: dict[str, Any] = arguments(magnitude)
    half = [int(values["cutout"] * height), int(values["cutout"] * width)]
    operations = {
        "autocontrast": lambda: autocontrast(image),
        "equalize": lambda: equalize(image),
        "invert": lambda: invert(image),
        "rotate": lambda: rotate(image, sign * values["rotate"]),
        "posterize": lambda: posterize(image, values["posterize"]),
        "solarize": lambda: solarize(image, values["solarize"]),
        "color": lambda: color(image, values["color"]),
        "contrast": lambda: contrast(image, values["contrast"]),
        "brightness": lambda: brightness(image, values["brightness"]),
        "sharpness": lambda: sharpness(image, values["sharpness"]),
        "shear_x": lambda: shear_x(image, sign * values["shear_x"]),
        "shear_y": lambda: shear_y(image, sign * values["shear_y"]),
        "translate_x": lambda: translate_x(image, sign * (values["translate_x"] * width)),
        "translate_y": lambda: translate_y(image, sign * (values["translate_y"] * height)),
        "cutout": lambda: cutout(image, tf.constant(half), tf.cast(draws[2:4] * (height, width), tf.int32)),
        "solarize_add": lambda: solarize_add(image, values["solarize_add"]),
    }
    chosen = tf.minimum(tf.cast(draws[0] * len(NAMES), tf.int32), len(NAMES) - 1)
    return tf.ensure_shape(tf.switch_case(chosen, [operations[name] for name in NAMES]), image.shape)


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
    """Keeps the 1 to 8 highest bits of every pixel."""
    mask = tf.cast(256 - tf.bitwise.left_shift(1, 8 - bits), tf.uint8)
    return tf.bitwise.bitwise_and(image, mask)


def solarize(image: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """Inverts the pixels of at least `threshold`, 0 to 255."""
    # 255 - x is x with all bits flipped; TensorFlow selects bits several times faster than elements.
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


# To combine an image with a row vector, the functions below reshape it to (height, width * channels): TensorFlow
# broadcasts along a last axis of 3 many times more slowly.


def _keys(image: tf.Tensor) -> tf.Tensor:
    """Returns `256 * channel + pixel`, int32 `(height, width * channels)`: the cell of a histogram or table."""
    height, width, channels = image.shape
    offsets = tf.tile(tf.range(channels) * 256, [width])
    return tf.cast(tf.reshape(image, (height, width * channels)), tf.int32) + offsets


def _look_up(keys: tf.Tensor, table: tf.Tensor, shape) -> tf.Tensor:
    """Replaces each pixel by `table[channel, pixel]`, clipped and truncated to a byte."""
    cells = tf.reshape(tf.cast(tf.clip_by_value(table, 0, 255), tf.uint8), [-1])
    return tf.reshape(tf.gather(cells, keys), shape)


def _all_bits(condition: tf.Tensor) -> tf.Tensor:
    """Returns 255 where the condition holds, else 0."""
    return tf.cast(condition, tf.uint8) * 255


def _grey(image: tf.Tensor) -> tf.Tensor:
    """Returns luma as Pillow computes it, float32 and repeated for every channel."""
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
    """Puts at (x, y) the pixel nearest to (a x + b y + c, d x + e y + f), or grey outside of the image.

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


# In JAX. A step augments a whole batch at once, and then every branch of a switch is computed for every image. So the
# operations are made of four kinds that each touch the pixels once: look them up in a table, move them, blend them with
# another image, cut them out.
_TABLES = ("autocontrast", "equalize", "invert", "posterize", "solarize", "solarize_add")
_MOVES = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
_BLENDS = ("color", "contrast", "brightness", "sharpness")
_KINDS = (_TABLES, _MOVES, _BLENDS, ("cutout",))


def randaugment_jax(image: jax.Array, draws: jax.Array, magnitude: float) -> jax.Array:
    """Does what `randaugment` does with the same draws, to uint8 pixels `(height, width, channels)` of JAX."""
    jnp = jax.numpy
    values = arguments(magnitude)
    kinds = np.array([next(place for place, names in enumerate(_KINDS) if name in names) for name in NAMES])
    places = np.array([_KINDS[kind].index(name) for name, kind in zip(NAMES, kinds, strict=True)])
    for layer in range(draws.shape[0]):
        draw = draws[layer]
        chosen = jnp.minimum((draw[0] * len(NAMES)).astype("int32"), len(NAMES) - 1)
        place = jnp.asarray(places)[chosen]
        results = (
            _looked_up_jax(image, values, place),
            _moved_jax(image, values, place, draw[1] < 0.5),
            _blended_jax(image, values, place),
            _cut_jax(image, values["cutout"], draw[2:4]),
        )
        image = jax.lax.select_n(jnp.asarray(kinds)[chosen], *results)
    return image


def _looked_up_jax(image, values, place):
    jnp = jax.numpy
    channels = image.shape[-1]
    pixels = image.reshape(-1, channels).astype("int32")
    levels = jnp.arange(256)
    low, high = pixels.min(axis=0)[:, None], pixels.max(axis=0)[:, None]
    stretched = jnp.where(high > low, (levels - low) * 255 // jnp.maximum(high - low, 1), levels)
    histogram = jnp.zeros((channels, 256), "int32").at[jnp.arange(channels), pixels].add(1)
    step = (len(pixels) - jnp.take_along_axis(histogram, high, axis=1)) // 255
    divisor = jnp.maximum(step, 1)
    before = jnp.cumsum(histogram, axis=1) - histogram
    flattened = jnp.where(step > 0, (before + divisor // 2) // divisor, levels)
    tables = [
        stretched,
        flattened,
        *(
            jnp.broadcast_to(table, (channels, 256))
            for table in (
                255 - levels,
                levels & (256 - (1 << (8 - values["posterize"]))),
                jnp.where(levels >= values["solarize"], 255 - levels, levels),
                jnp.where(levels < 128, jnp.minimum(levels + values["solarize_add"], 255), levels),
            )
        ),
    ]
    table = jnp.clip(jnp.stack(tables)[place], 0, 255).astype("uint8")
    return table[jnp.arange(channels), pixels].reshape(image.shape)


def _moved_jax(image, values, place, negative):
    jnp = jax.numpy
    height, width, channels = image.shape
    x, y = (width - 1) / 2, (height - 1) / 2

    def coefficients(sign):
        radians = sign * values["rotate"] * math.pi / 180.0
        cos, sin = math.cos(radians), math.sin(radians)
        shear = sign * values["shear_x"]
        return [
            [cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y],
            [1, shear, 0, 0, 1, 0],
            [1, 0, 0, shear, 1, 0],
            [1, 0, sign * values["translate_x"] * width, 0, 1, 0],
            [1, 0, 0, 0, 1, sign * values["translate_y"] * height],
        ]

    a, b, c, d, e, f = jnp.asarray([coefficients(1.0), coefficients(-1.0)], "float32")[negative.astype("int32"), place]
    x, y = jnp.arange(width, dtype="float32"), jnp.arange(height, dtype="float32")[:, None]
    column = jnp.floor(a * x + (b * y + (c + 0.5))).astype("int32")
    row = jnp.floor(d * x + (e * y + (f + 0.5))).astype("int32")
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    pixels = image.reshape(-1, channels)[jnp.where(inside, row * width + column, 0)]
    return jnp.where(inside[..., None], pixels, jnp.uint8(FILL))


def _blended_jax(image, values, place):
    jnp = jax.numpy
    pixels = image.astype("float32")
    grey = pixels
    if image.shape[-1] == 3:
        parts = (image.astype("int32") * jnp.asarray([19595, 38470, 7471])).sum(axis=-1, keepdims=True)
        grey = jnp.broadcast_to((parts + 32768) >> 16, image.shape).astype("float32")
    mean = jnp.floor(grey.mean() + 0.5)
    smooth = pixels
    if min(image.shape[:2]) >= 3:
        rows = pixels[:-2] + pixels[1:-1] + pixels[2:]
        around = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4.0 * pixels[1:-1, 1:-1]
        smooth = pixels.at[1:-1, 1:-1].set(jnp.floor(around / 13.0 + 0.5))
    others = jnp.stack([grey, jnp.broadcast_to(mean, image.shape), jnp.zeros_like(pixels), smooth])
    other, factor = others[place], values["color"]  # all four take the same factor
    return jnp.clip(other + factor * (pixels - other), 0, 255).astype("uint8")


def _cut_jax(image, share, draws):
    jnp = jax.numpy
    sides = image.shape[:2]
    inside = jnp.ones((), bool)
    for axis, side in enumerate(sides):
        center, half = (draws[axis] * side).astype("int32"), int(share * side)
        line = jnp.arange(side)
        hit = (line >= center - half) & (line < center + half)
        inside = inside & (hit[:, None] if axis == 0 else hit)
    return jnp.where(inside[..., None], jnp.uint8(FILL), image)
