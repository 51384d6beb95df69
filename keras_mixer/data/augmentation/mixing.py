"""Mixup (Zhang et al., 2017) and CutMix (Yun et al., 2019) of a batch.

Examples 2i and 2i + 1 are mixed with each other. Because the stream is shuffled, the partners are random. A pair always
lies in one shard, so several hosts together make exactly the batch that one host would make. `draw` makes all random
choices, so that `mix` can be compiled together with other operations on the pixels. Both functions have a JAX form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from keras_mixer.extras import OnFirstUse

if TYPE_CHECKING:
    import jax
    import tensorflow as tf
else:
    tf, jax = OnFirstUse("tensorflow"), OnFirstUse("jax")


class Mixture(NamedTuple):
    """The random choices of a batch, as TensorFlow tensors or JAX arrays."""

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


def draw_jax(image_size: tuple[int, int], *, mixup: float, cutmix: float, key: jax.Array) -> Mixture | None:
    """Draws as `draw` does, from the same distributions."""
    if not (mixup or cutmix):
        return None
    jnp = jax.numpy
    keys = jax.random.split(key, 4)
    share = jnp.ones(())
    if mixup:
        share = jax.random.beta(keys[0], mixup, mixup)
        share = jnp.maximum(share, 1.0 - share)
    if not cutmix:
        return Mixture(share, share, None)
    sides = jnp.asarray(image_size, "float32")
    half = jnp.sqrt(1.0 - jax.random.beta(keys[1], cutmix, cutmix)) * sides / 2.0
    center = jax.random.uniform(keys[2], (2,)) * sides
    first = jnp.round(jnp.maximum(center - half, 0.0)).astype("int32")
    stop = jnp.round(jnp.minimum(center + half, sides)).astype("int32")
    uncovered = 1.0 - jnp.maximum(stop - first, 0).prod() / (image_size[0] * image_size[1])
    by_mixup = (jax.random.uniform(keys[3]) < 0.5) if mixup else jnp.zeros((), bool)
    box = (first, jnp.where(by_mixup, first, stop))
    return Mixture(jnp.where(by_mixup, share, 1.0), jnp.where(by_mixup, share, uncovered), box)


def mix_jax(images: jax.Array, labels: jax.Array, mixture: Mixture | None) -> tuple[jax.Array, jax.Array]:
    """Mixes as `mix` does."""
    if mixture is None:
        return images, labels
    jnp = jax.numpy
    _, height, width, _ = images.shape
    pairs, label_pairs = (value.reshape(-1, 2, *value.shape[1:]) for value in (images, labels))
    mixed = pairs if mixture.share is None else _blend_jax(pairs, mixture.share)
    if mixture.box is not None:
        first, stop = mixture.box
        rows, columns = jnp.arange(height)[:, None, None], jnp.arange(width)[:, None]
        inside = (rows >= first[0]) & (rows < stop[0]) & (columns >= first[1]) & (columns < stop[1])
        mixed = jnp.where(inside, pairs[:, ::-1], mixed)
    return mixed.reshape(images.shape), _blend_jax(label_pairs, mixture.label_share).reshape(labels.shape)


def _blend_jax(pairs, share):
    return share * pairs + (1.0 - share) * pairs[:, ::-1]
