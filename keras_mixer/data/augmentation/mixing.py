"""Mixup (Zhang et al., 2017) and CutMix (Yun et al., 2019) of a batch.

Examples 2i and 2i + 1 are mixed with each other. Because the stream is shuffled, the partners are random. A pair always
lies in one shard, so several hosts together make exactly the batch that one host would make. `draw` makes all random
choices, so that `mix` can be compiled together with other operations on the pixels.
"""

from typing import NamedTuple

import tensorflow as tf


class Mixture(NamedTuple):
    """The random choices of a batch, as tensors."""

    share: tf.Tensor | None  # float32, share of itself that an image keeps, at least 0.5; None without mixup
    label_share: tf.Tensor  # float32, share of itself that a label keeps
    box: tuple[tf.Tensor, tf.Tensor] | None  # int32 first and stop (row, column) of the partner's pixels, for CutMix


def draw(image_size: tuple[int, int], *, mixup: float, cutmix: float, seed: tf.Tensor) -> Mixture | None:
    """Draws the mixing of a batch: mixup, CutMix, or either with equal probability. Returns None if both are off.

    All shards of a batch must pass the same seed, a pair of integers.
    """
    if not (mixup or cutmix):
        return None
    seeds = tf.random.split(seed, 3)
    box, uncovered = _box(image_size, _beta(cutmix, seeds[0]), seeds[1]) if cutmix else (None, None)
    if not mixup:
        return Mixture(None, uncovered, box)
    share = _beta(mixup, seeds[0])
    # Beta(p, p) is symmetric: the example itself keeps the greater share.
    share = tf.maximum(share, 1.0 - share)
    if box is None:
        return Mixture(share, share, None)
    by_mixup = tf.random.stateless_uniform((), seeds[2]) < 0.5
    first, stop = box
    return Mixture(
        tf.where(by_mixup, share, 1.0), tf.where(by_mixup, share, uncovered), (first, tf.where(by_mixup, first, stop))
    )


def mix(images: tf.Tensor, labels: tf.Tensor, mixture: Mixture | None) -> tuple[tf.Tensor, tf.Tensor]:
    """Mixes float32 `images` of a static shape and `labels` `(batch, classes)` as drawn. The batch must be even."""
    if mixture is None:
        return images, labels
    _, height, width, channels = images.shape
    pairs = tf.reshape(images, (-1, 2, height, width * channels))
    mixed = pairs if mixture.share is None else _blend(pairs, mixture.share)
    if mixture.box is not None:
        first, stop = mixture.box
        rows, columns = tf.range(height)[:, tf.newaxis], tf.range(width * channels) // channels
        inside = (rows >= first[0]) & (rows < stop[0]) & (columns >= first[1]) & (columns < stop[1])
        mixed = tf.where(inside, tf.reverse(pairs, axis=[1]), mixed)
    label_pairs = tf.reshape(labels, (-1, 2, labels.shape[1]))
    return tf.reshape(mixed, images.shape), tf.reshape(_blend(label_pairs, mixture.label_share), labels.shape)


def _blend(pairs, share):
    """Returns `share` times each example plus `1 - share` times its partner."""
    return share * pairs + (1.0 - share) * tf.reverse(pairs, axis=[1])


def _box(image_size, share, seed):
    """Draws a box of `1 - share` of the area and clips it at the border. Returns the box and the share outside it."""
    sides = tf.constant(image_size, tf.float32)
    half = tf.sqrt(1.0 - share) * sides / 2.0
    center = tf.random.stateless_uniform((2,), seed, alg="philox") * sides
    first = tf.cast(tf.round(tf.maximum(center - half, 0.0)), tf.int32)
    stop = tf.cast(tf.round(tf.minimum(center + half, sides)), tf.int32)
    area = tf.cast(tf.reduce_prod(tf.maximum(stop - first, 0)), tf.float32)
    return (first, stop), 1.0 - area / (image_size[0] * image_size[1])


def _beta(parameter: float, seed) -> tf.Tensor:
    # In single precision a small parameter would make both gamma variables zero.
    gammas = tf.random.stateless_gamma((2,), seed, parameter, dtype=tf.float64)
    return tf.cast(gammas[0] / tf.reduce_sum(gammas), tf.float32)
