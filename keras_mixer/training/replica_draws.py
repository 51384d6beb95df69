"""Random draws that differ between the replicas of a `tf.distribute` strategy."""

import functools

import keras
import tensorflow as tf


def draw_apart(model: keras.Model) -> None:
    """Makes the layers of `model` drop other samples and units on each replica.

    Every replica holds a copy of the same random state, so that example i of each replica's share would lose the same
    branches. The number of the replica, added to the key of each draw, tells them apart. The state itself stays equal
    everywhere and is saved as one: a run that goes on draws what it would have drawn, on as many replicas.
    """
    for layer in model._flatten_layers():
        for generator in layer._seed_generators:
            generator.next = functools.partial(_next_of_replica, generator)


def _next_of_replica(generator: keras.random.SeedGenerator, ordered: bool = True) -> tf.Tensor:
    """The key of the next draw, two integers, of which the second counts."""
    key = type(generator).next(generator, ordered)
    context = tf.distribute.get_replica_context()
    if context is None:
        return key
    return key + tf.stack([tf.cast(context.replica_id_in_sync_group, key.dtype), tf.constant(0, key.dtype)])
