"""Batches to evaluate on: every example exactly once, in order, without randomness."""

import tensorflow as tf

from keras_mixer.data.corrupt import CorruptImages, attempt
from keras_mixer.data.sources import Source
from keras_mixer.preprocessing import Preprocessing

# Nothing here is Python control flow on tensors, and AutoGraph takes longer than all the rest of making the pipeline.
_unconverted = tf.autograph.experimental.do_not_convert


def evaluation_batches(
    source: Source,
    preprocessing: Preprocessing,
    batch_size: int,
    *,
    one_hot: bool = False,
    pad: bool = False,
    corrupt: CorruptImages | None = None,
) -> tf.data.Dataset:
    """Decodes, resizes and batches a source for `model.evaluate` and `model.predict`.

    Args:
        source: The labelled images.
        preprocessing: What the model expects.
        batch_size: Examples per batch.
        one_hot: Whether labels are rows of a one-hot matrix instead of integers.
        pad: Whether to fill up the last batch, so that all have one static shape; the filling has weight 0.
        corrupt: Counts unreadable images, which get weight 0; without it the first one stops the iteration.

    Returns:
        A dataset of `(images, labels, weights)`: float32 `(batch, height, width, channels)`; int64 `(batch,)` or
        float32 `(batch, classes)`; float32 `(batch,)`, 1 for an example and 0 for what is to be ignored.

    Raises:
        ValueError: If `batch_size` is not positive.

    Example:
        >>> source = keras_mixer.data.load("digits", split="test")
        >>> preprocessing = keras_mixer.data.Preprocessing(image_size=(8, 8), channels=1, resize="direct")
        >>> batches = keras_mixer.data.evaluation_batches(source, preprocessing, batch_size=100)
        >>> [len(labels) for images, labels, weights in batches]
        [100, 100, 100, 60]
    """
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"`batch_size` is a positive number of examples, but got {batch_size!r}.")
    corrupt = CorruptImages() if corrupt is None else corrupt

    @_unconverted
    def prepare(example):
        image, readable = attempt(preprocessing, example["image"], tf.zeros(preprocessing.input_shape))
        image = tf.ensure_shape(image, preprocessing.input_shape)
        return {"image": image, "label": example["label"], "index": example["index"], "readable": readable}

    @_unconverted
    def finish(batch):
        batch = corrupt.count_unreadable(batch, source)
        images, labels, weights = batch["image"], batch["label"], tf.cast(batch["readable"], tf.float32)
        if pad:
            missing = batch_size - tf.shape(labels)[0]
            images, labels, weights = (
                tf.ensure_shape(
                    tf.pad(value, [[0, missing]] + [[0, 0]] * (value.shape.rank - 1)), (batch_size, *value.shape[1:])
                )
                for value in (images, labels, weights)
            )
        if one_hot:
            labels = tf.one_hot(labels, len(source.class_names))
        return images, labels, weights

    batches = source.examples().map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).batch(batch_size)
    return batches.map(finish).prefetch(tf.data.AUTOTUNE)
