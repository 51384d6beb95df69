"""The augmentation of one image in TensorFlow or JAX: a random crop, then the other steps in order.

A new step needs a field of `keras_mixer.augmentation.Augmentation`, a file with both of its forms, and a line in
`STEPS`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from keras_mixer.augmentation import Augmentation
from keras_mixer.data.augmentation import randaugment
from keras_mixer.data.augmentation.crop import crop, crop_jax
from keras_mixer.extras import OnFirstUse
from keras_mixer.images import MAX_PIXELS
from keras_mixer.preprocessing import Preprocessing

if TYPE_CHECKING:
    import jax
    import tensorflow as tf
else:
    tf, jax = OnFirstUse("tensorflow"), OnFirstUse("jax")


@dataclasses.dataclass(frozen=True)
class Step:
    """An augmentation of one image in both forms.

    Each form takes uint8 pixels of the model's input size, the settings, and a TensorFlow seed or a JAX key. It returns
    uint8 pixels of the same shape.
    """

    tensorflow: Callable[[Any, Augmentation, Any], Any]
    jax: Callable[[Any, Augmentation, Any], Any]


# In order. Each step has its own seed, so a new step at the end does not change the others' draws.
STEPS = [Step(randaugment.flip_and_randaugment, randaugment.flip_and_randaugment_jax)]


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
    for number, step in enumerate(STEPS):
        # The first step takes the seed itself, as in version 0.1.
        pixels = step.tensorflow(pixels, augmentation, tf.random.fold_in(seed, number) if number else seed)
    return pixels


def crop_key(key: jax.Array) -> jax.Array:
    """Returns the part of an example's key that draws its crop."""
    return jax.random.fold_in(key, 0)


def augment_jax(
    image: jax.Array, augmentation: Augmentation, preprocessing: Preprocessing, key: jax.Array, cropped: bool = False
) -> jax.Array:
    """Takes one image in memory, or one that is cropped already, through all steps."""
    pixels = image if cropped else crop_jax(image, augmentation, preprocessing, crop_key(key))
    for number, step in enumerate(STEPS):
        pixels = step.jax(pixels, augmentation, jax.random.fold_in(key, 1 + number))
    return pixels
