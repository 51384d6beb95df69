"""The order in which training takes examples: another one in each epoch, decided by the seed alone."""

import tensorflow as tf

from keras_mixer.data.sources import Source

FOREVER = 2**62
# Separate the random numbers of the order, of the examples and of the batches of one seed.
ORDER, EXAMPLE, BATCH = range(3)
# Encoded images in the shuffle buffer of a source without random access: about 2 GB of ImageNet.
SHUFFLE_BUFFER = 16_384


def key(seed: int, purpose: int, number: tf.Tensor) -> tf.Tensor:
    """The two integers from which the random numbers of an order, an example or a batch are drawn."""
    return tf.stack([seed * 3 + purpose, number])


def with_examples(places: tf.data.Dataset, size: int, seed: int) -> tf.data.Dataset:
    """Pairs of a position of the stream and the example there: each epoch is a permutation of all examples.

    It is computed element by element, so that a stream starts anywhere at no cost.
    """

    @tf.autograph.experimental.do_not_convert
    def pair(place):
        epoch, within = place // size, place % size
        return place, tf.random.experimental.index_shuffle(within, key(seed, ORDER, epoch), size - 1)

    return places.map(pair)


def read_in_order(source: Source, seed: int, start: int) -> tf.data.Dataset:
    """Endless epochs of a source that has no random access, from example number `start` of the stream."""
    size = source.num_examples

    @tf.autograph.experimental.do_not_convert
    def epoch(number):
        # The order is to depend on our seed alone, not on the global one, which this function's graph inherited.
        tf.compat.v1.set_random_seed(1)
        number_of_order = (seed * 3 + ORDER) * 2**20 + number
        # First the files, then what several of them hold: alone, the buffer is a few batches of a large dataset.
        examples = source.shuffled(number_of_order).shuffle(min(size, SHUFFLE_BUFFER), seed=number_of_order)
        return examples.skip(tf.where(number == start // size, tf.constant(start % size, tf.int64), 0))

    return tf.data.Dataset.range(start // size, FOREVER).flat_map(epoch)
