"""Mixup (Zhang et al., 2017) and CutMix (Yun et al., 2019) of a batch.

Example 2i is mixed with example 2i + 1, and the reverse. Neighbours of a shuffled stream are random partners, and pairs
never cross the border between the shards of a batch: its parts on several hosts are exactly the parts of the batch
that one host would make.
"""

import tensorflow as tf


def mix(images: tf.Tensor, labels: tf.Tensor, *, mixup: float, cutmix: float, seed: tf.Tensor):
    """Mixes a batch by mixup, by CutMix, or by the one that a coin decides for.

    Args:
        images: float32 `(batch, height, width, channels)` with a static shape and an even batch.
        labels: float32 `(batch, classes)`.
        mixup: Parameter p of the one Beta(p, p) draw for the batch; 0 for no mixup.
        cutmix: The same of CutMix.
        seed: Two integers, equal on all shards of the batch.

    Returns:
        Images and labels of the same shapes.
    """
    if not (mixup or cutmix):
        return images, labels
    seeds = tf.random.split(seed, 3)
    by_mixup = lambda: _mixup(images, labels, _beta(mixup, seeds[0]))  # noqa: E731
    by_cutmix = lambda: _cutmix(images, labels, _beta(cutmix, seeds[0]), seeds[1])  # noqa: E731
    if not (mixup and cutmix):
        return by_mixup() if mixup else by_cutmix()
    return tf.cond(tf.random.stateless_uniform((), seeds[2]) < 0.5, by_mixup, by_cutmix)


def _mixup(images, labels, share):
    # Of Beta(p, p) and its mirror image, the example itself keeps the greater share.
    share = tf.maximum(share, 1.0 - share)
    return _blend_pairs(images, share), _blend_pairs(labels, share)


def _cutmix(images, labels, share, seed):
    """Puts one random box of the partner, `1 - share` of the area before clipping at the border, into every image."""
    _, height, width, channels = images.shape
    sides = tf.constant([height, width], tf.float32)
    half = tf.sqrt(1.0 - share) * sides / 2.0
    center = tf.random.stateless_uniform((2,), seed, alg="philox") * sides
    first = tf.cast(tf.round(tf.maximum(center - half, 0.0)), tf.int32)
    stop = tf.cast(tf.round(tf.minimum(center + half, sides)), tf.int32)
    rows, columns = tf.range(height)[:, tf.newaxis], tf.range(width * channels) // channels
    inside = (rows >= first[0]) & (rows < stop[0]) & (columns >= first[1]) & (columns < stop[1])
    area = tf.cast(tf.reduce_prod(tf.maximum(stop - first, 0)), tf.float32)
    pairs = tf.reshape(images, (-1, 2, height, width * channels))
    mixed = tf.where(inside, tf.reverse(pairs, axis=[1]), pairs)
    return tf.reshape(mixed, images.shape), _blend_pairs(labels, 1.0 - area / (height * width))


def _blend_pairs(values, share):
    """`share` of each example plus the rest of its partner."""
    matrix = tf.reshape(tf.stack([share, 1.0 - share, 1.0 - share, share]), (2, 2))
    pairs = tf.reshape(values, (values.shape[0] // 2, 2, -1))
    return tf.reshape(tf.matmul(matrix, pairs), values.shape)  # one pass over memory


def _beta(parameter: float, seed) -> tf.Tensor:
    # Double precision: for a small parameter both gamma variables fall below the least single.
    gammas = tf.random.stateless_gamma((2,), seed, parameter, dtype=tf.float64)
    return tf.cast(gammas[0] / tf.reduce_sum(gammas), tf.float32)
