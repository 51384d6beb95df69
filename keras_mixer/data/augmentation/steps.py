"""The augmentation of one image: a random crop, then the other steps in order.

A new step needs a field of `keras_mixer.augmentation.Augmentation` and a function with `@_step` in this file.
"""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from keras_mixer.augmentation import Augmentation
from keras_mixer.data.augmentation.randaugment import DRAWS_PER_LAYER, randaugment
from keras_mixer.data.pixels import fit, read, read_box
from keras_mixer.images import MAX_PIXELS
from keras_mixer.preprocessing import Preprocessing

# Takes uint8 pixels of the model's input size, the settings and a seed. Returns uint8 pixels of the same shape.
Step = Callable[[tf.Tensor, Augmentation, tf.Tensor], tf.Tensor]
_STEPS: list[Step] = []


def _step(function: Step) -> Step:
    """Adds a step after those above it. Each step has its own seed, so a new step does not change the others' draws."""
    _STEPS.append(function)
    return function


def augment(
    image: tf.Tensor,
    augmentation: Augmentation,
    preprocessing: Preprocessing,
    seed: tf.Tensor,
    max_pixels: int = MAX_PIXELS,
) -> tf.Tensor:
    """Implements `Augmentation.augment`."""
    crop_seed, seed = tf.unstack(tf.random.split(seed, 2))
    pixels = crop(image, augmentation, preprocessing, crop_seed, max_pixels)
    for number, step in enumerate(_STEPS):
        # The first step takes the seed itself, as in version 0.1.
        pixels = step(pixels, augmentation, tf.random.fold_in(seed, number) if number else seed)
    return pixels


@_step
def _flip_and_randaugment(pixels: tf.Tensor, augmentation: Augmentation, seed: tf.Tensor) -> tf.Tensor:
    layers = augmentation.randaugment_layers
    if not (augmentation.flip or layers):
        return pixels
    draws = tf.random.stateless_uniform((1 + layers * DRAWS_PER_LAYER,), seed, alg="philox")
    if augmentation.flip:
        pixels = tf.cond(draws[0] < 0.5, lambda: tf.reverse(pixels, axis=[1]), lambda: pixels)
    return randaugment(pixels, tf.reshape(draws[1:], (layers, DRAWS_PER_LAYER)), augmentation.randaugment_magnitude)


def crop(
    image: tf.Tensor,
    augmentation: Augmentation,
    preprocessing: Preprocessing,
    seed: tf.Tensor,
    max_pixels: int = MAX_PIXELS,
) -> tf.Tensor:
    """Decodes an image if it is encoded, and crops it. Returns uint8 `(*image_size, channels)`."""
    if augmentation.crop == "inception":
        return inception_crop(image, augmentation, preprocessing, seed, max_pixels)
    decoded = read(image, preprocessing.channels, max_pixels=max_pixels) if image.dtype == tf.string else image
    # "pad" shifts the whole image. "none" prepares the image as evaluation does.
    whole = dataclasses.replace(preprocessing, resize="direct") if augmentation.crop == "pad" else preprocessing
    if whole.resize == "direct" and decoded.shape == whole.input_shape:
        pixels = decoded
    else:
        pixels = tf.cast(tf.round(fit(decoded, whole)), tf.uint8)
    return padded_crop(pixels, augmentation.crop_padding, seed) if augmentation.crop == "pad" else pixels


def inception_crop(
    image: tf.Tensor,
    augmentation: Augmentation,
    preprocessing: Preprocessing,
    seed: tf.Tensor,
    max_pixels: int = MAX_PIXELS,
) -> tf.Tensor:
    """Resizes a random box of the image to the model's input size (Szegedy et al., 2015).

    Of a JPEG, only the box is decoded. As in the paper's code, shrinking is not antialiased.
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
        cropped = read_box(image, box, preprocessing.channels, max_pixels=max_pixels)
    else:
        top, left, height, width = tf.unstack(box(tf.shape(image)))
        cropped = image[top : top + height, left : left + width]
    cropped = tf.ensure_shape(cropped, (None, None, preprocessing.channels))
    resized = tf.image.resize(cropped, preprocessing.image_size, method=preprocessing.interpolation)
    return tf.saturate_cast(tf.round(resized), tf.uint8)


def padded_crop(image: tf.Tensor, padding: int, seed: tf.Tensor) -> tf.Tensor:
    """Shifts an image by up to `padding` pixels in each direction and fills the gap with black."""
    height, width, _ = image.shape
    padded = tf.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    offset = tf.random.stateless_uniform((2,), seed, 0, 2 * padding + 1, tf.int32, alg="philox")
    return tf.ensure_shape(padded[offset[0] : offset[0] + height, offset[1] : offset[1] + width], image.shape)
