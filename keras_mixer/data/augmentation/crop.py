"""The random crop of an image, in TensorFlow and in JAX."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_mixer.augmentation import Augmentation
from keras_mixer.data import arrays
from keras_mixer.extras import OnFirstUse
from keras_mixer.images import MAX_PIXELS
from keras_mixer.preprocessing import Preprocessing

if TYPE_CHECKING:
    import jax
    import tensorflow as tf

    from keras_mixer.data import pixels
else:
    tf, jax = OnFirstUse("tensorflow"), OnFirstUse("jax")
    pixels = OnFirstUse("keras_mixer.data.pixels")

ATTEMPTS = 32  # boxes that are drawn at once; the first that fits into the image is taken


def crop(
    image: tf.Tensor,
    augmentation: Augmentation,
    preprocessing: Preprocessing,
    seed: tf.Tensor,
    max_pixels: int = MAX_PIXELS,
) -> tf.Tensor:
    """Decodes an image if it is encoded, and crops it: uint8 `(*image_size, channels)`."""
    if augmentation.crop == "inception":
        return inception_crop(image, augmentation, preprocessing, seed, max_pixels)
    decoded = pixels.read(image, preprocessing.channels, max_pixels=max_pixels) if image.dtype == tf.string else image
    # "pad" shifts the whole image, and "none" takes what evaluation sees.
    whole = dataclasses.replace(preprocessing, resize="direct") if augmentation.crop == "pad" else preprocessing
    if whole.resize == "direct" and decoded.shape == whole.input_shape:
        fitted = decoded
    else:
        fitted = tf.cast(tf.round(pixels.fit(decoded, whole)), tf.uint8)
    return padded_crop(fitted, augmentation.crop_padding, seed) if augmentation.crop == "pad" else fitted


def inception_crop(
    image: tf.Tensor,
    augmentation: Augmentation,
    preprocessing: Preprocessing,
    seed: tf.Tensor,
    max_pixels: int = MAX_PIXELS,
) -> tf.Tensor:
    """Resizes a random box of the image to the model's input size (Szegedy et al., 2015).

    Only the box of a JPEG is decoded. Shrinking is not antialiased, as in the paper's code.
    """

    def box(shape):
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            shape,
            bounding_boxes=tf.zeros((1, 0, 4)),
            seed=seed,
            min_object_covered=0.0,
            area_range=augmentation.crop_area,
            aspect_ratio_range=augmentation.crop_ratio,
            use_image_if_no_bounding_boxes=True,
        )
        return tf.concat([begin[:2], size[:2]], 0)

    if image.dtype == tf.string:
        cropped = pixels.read_box(image, box, preprocessing.channels, max_pixels=max_pixels)
    else:
        top, left, height, width = tf.unstack(box(tf.shape(image)))
        cropped = image[top : top + height, left : left + width]
    cropped = tf.ensure_shape(cropped, (None, None, preprocessing.channels))
    resized = tf.image.resize(cropped, preprocessing.image_size, method=preprocessing.interpolation)
    return tf.saturate_cast(tf.round(resized), tf.uint8)


def padded_crop(image: tf.Tensor, padding: int, seed: tf.Tensor) -> tf.Tensor:
    """Shifts an image by up to `padding` pixels in each direction; black moves in."""
    height, width, _ = image.shape
    padded = tf.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    offset = tf.random.stateless_uniform((2,), seed, 0, 2 * padding + 1, tf.int32, alg="philox")
    return tf.ensure_shape(padded[offset[0] : offset[0] + height, offset[1] : offset[1] + width], image.shape)


def crop_jax(image: jax.Array, augmentation: Augmentation, preprocessing: Preprocessing, key: jax.Array) -> jax.Array:
    """Crops an image in memory. For "pad" and "none" it comes in the model's input size, for "inception" in any."""
    if augmentation.crop == "inception":
        box = random_box(box_draws(key), image.shape[0], image.shape[1], augmentation, jax.numpy)
        return resized_box_jax(image, box, preprocessing)
    return padded_crop_jax(image, augmentation.crop_padding, key) if augmentation.crop == "pad" else image


def box_draws(key: jax.Array) -> jax.Array:
    """Draws what `random_box` makes a box of, float32 in [0, 1)."""
    return jax.random.uniform(key, (ATTEMPTS, 4))


def random_box(draws, height, width, augmentation: Augmentation, xp: Any = np):
    """Makes a box as `stateless_sample_distorted_bounding_box` does: top, left, height and width, int32 `(4,)`.

    The ratio is uniform, and so is the height between those of the least and the greatest area. If no attempt fits, the
    box is the whole image. `xp` is `numpy` or `jax.numpy`.
    """
    height, width = xp.float32(height), xp.float32(width)
    least, greatest = map(np.float32, augmentation.crop_ratio)
    ratio = least + draws[:, 0] * (greatest - least)
    small, large = (np.float32(share) * height * width for share in augmentation.crop_area)
    lowest, highest = (xp.round(xp.sqrt(area / ratio)) for area in (small, large))
    widest = xp.floor((width + np.float32(0.5)) / ratio)
    widest = widest - (xp.round(widest * ratio) > width)
    highest = xp.minimum(xp.where(xp.round(highest * ratio) > width, widest, highest), height)
    lowest = xp.minimum(lowest, highest)
    tall = lowest + xp.floor(draws[:, 1] * (highest - lowest + 1))
    tall = tall + (tall * xp.round(tall * ratio) < small)
    tall = tall - (tall * xp.round(tall * ratio) > large)
    wide = xp.round(tall * ratio)
    area = tall * wide
    fits = (area >= small) & (area <= large) & (wide <= width) & (tall <= height) & (wide > 0) & (tall > 0)
    top, left = xp.floor(draws[:, 2] * (height - tall)), xp.floor(draws[:, 3] * (width - wide))
    boxes = xp.stack([top, left, tall, wide], axis=1)
    whole = xp.stack([xp.float32(0), xp.float32(0), height, width])
    return xp.where(fits.any(), boxes[xp.argmax(fits)], whole).astype("int32")


def resized_box_jax(image: jax.Array, box: jax.Array, preprocessing: Preprocessing) -> jax.Array:
    """Resizes a box of an image to the model's input size, uint8."""
    jnp = jax.numpy
    rows, columns = (
        arrays.resize_matrix(inputs, outputs, first, extent, preprocessing.interpolation, False, jnp)
        for inputs, outputs, first, extent in zip(
            image.shape[:2], preprocessing.image_size, box[:2], box[2:], strict=True
        )
    )
    resized = jnp.einsum("oh,hwc,pw->opc", rows, image.astype("float32"), columns, precision="highest")
    return jnp.clip(jnp.round(resized), 0, 255).astype("uint8")


def padded_crop_jax(image: jax.Array, padding: int, key: jax.Array) -> jax.Array:
    """Shifts an image by up to `padding` pixels in each direction; black moves in."""
    top, left = jax.random.randint(key, (2,), 0, 2 * padding + 1)
    return shifted(image, top, left, padding)


def shifted(image: jax.Array, top, left, padding: int) -> jax.Array:
    """Cuts the window at `top` and `left` out of an image with a black border of `padding` pixels."""
    padded = jax.numpy.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)
