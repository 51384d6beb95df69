"""The parts of the training stream: the order of the examples, and batches of augmented pixels.

Every random number is a function of the seed and of a position in the stream, so that a stream can start anywhere.
"""

from collections.abc import Callable

import tensorflow as tf

from keras_mixer.data.arrays import ORDER
from keras_mixer.data.pixels import attempt, first_success
from keras_mixer.data.sources.base import Source

FOREVER = 2**62
# Encoded images in the shuffle buffer of a source without random access: about 2 GB of ImageNet.
SHUFFLE_BUFFER = 16_384
# Images that are decoded in one attempt. If one of them cannot be read, each is tried alone. TensorFlow sets up each
# attempt anew, so the endless stream takes many at once. Evaluation takes few, so that all cores share a few images.
AT_ONCE, STREAMED_AT_ONCE = 16, 64

unconverted = tf.autograph.experimental.do_not_convert


def key(seed: int, purpose: int, number: tf.Tensor) -> tf.Tensor:
    """Returns the two integers that seed the random numbers of an epoch's order, an example or a batch."""
    return tf.stack([seed * 3 + purpose, number])


def with_examples(places: tf.data.Dataset, size: int, seed: int) -> tf.data.Dataset:
    """Pairs each position of the stream with an example: each epoch is a permutation, computed element by element."""

    @unconverted
    def pair(place):
        epoch, within = place // size, place % size
        return place, tf.random.experimental.index_shuffle(within, key(seed, ORDER, epoch), size - 1)

    return places.map(pair)


def read_in_order(source: Source, seed: int, start: int) -> tf.data.Dataset:
    """Reads endless epochs of a source without random access, from example number `start` of the stream on."""
    size = source.num_examples

    @unconverted
    def epoch(number):
        # Without this, the order would depend on the global seed, which this function's graph inherits.
        tf.compat.v1.set_random_seed(1)
        number_of_order = (seed * 3 + ORDER) * 2**20 + number
        # Whole files are shuffled first, because the buffer alone holds only a few batches of a large dataset.
        examples = source.shuffled(number_of_order).shuffle(min(size, SHUFFLE_BUFFER), seed=number_of_order)
        return examples.skip(tf.where(number == start // size, tf.constant(start % size, tf.int64), 0))

    return tf.data.Dataset.range(start // size, FOREVER).flat_map(epoch)


def augmented(numbered: tf.data.Dataset, fetch: Callable, augment: Callable, shape, batch_size: int, encoded: bool):
    """Makes batches `{"image", "label", "index", "readable"}` of augmented examples.

    `fetch` maps an element of `numbered` to an example and its place in the stream, and `augment` maps the place and
    the image to uint8 pixels of `shape`. If images are encoded, the pixels of an unreadable one are zeros.
    """

    @unconverted
    def sure(*number):
        place, example = fetch(*number)
        return {**example, "image": tf.ensure_shape(augment(place, example["image"]), shape), "readable": True}

    if not encoded:
        return numbered.map(sure, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size, drop_remainder=True)

    @unconverted
    def careful(*number):
        place, example = fetch(*number)
        pixels, readable = attempt(lambda image: augment(place, image), example["image"], tf.zeros(shape, tf.uint8))
        return {**example, "image": tf.ensure_shape(pixels, shape), "readable": readable}

    at_once = max(number for number in range(1, STREAMED_AT_ONCE + 1) if batch_size % number == 0)

    @unconverted
    def several(*numbers):
        examples = tf.data.Dataset.from_tensor_slices(numbers)
        return first_success(*(examples.map(one).batch(at_once, drop_remainder=True) for one in (sure, careful)))

    parts = numbered.batch(at_once, drop_remainder=True).map(several, num_parallel_calls=tf.data.AUTOTUNE)
    return parts.rebatch(batch_size, drop_remainder=True)


def replace_unreadable(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Replaces each unreadable example by the next readable one. After the last example comes the first."""
    readable = batch["readable"]

    def replace():
        count = tf.size(readable)
        places = tf.range(count)
        distances = (places - places[:, tf.newaxis]) % count  # from row to column
        nearest = tf.argmin(tf.where(readable, distances, count), axis=1)
        return {name: tf.gather(value, nearest) for name, value in batch.items()}

    chosen = tf.cond(tf.reduce_all(readable), lambda: batch, replace)
    return {name: tf.ensure_shape(value, batch[name].shape) for name, value in chosen.items()}
