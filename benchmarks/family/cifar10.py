"""One small training on CIFAR-10, the same for every architecture."""

import os
import time

import keras
import numpy as np
import tensorflow as tf

from benchmarks.family.rows import Row

BATCH = 128
PEAK_LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.05
PADDING = 4  # pixels, of the random crop


def trained_accuracy(row: Row, archive: str | os.PathLike, epochs: int, limit: int | None = None) -> dict:
    """Trains the row's small model and tests it.

    Random crops and flips, AdamW, a linear warm-up over a twentieth of the steps and then a cosine, label smoothing
    of 0.1, seed 0. Nothing is tuned for any of them.

    Returns:
        Test accuracy in [0, 1], trainable parameters and seconds of training.
    """
    from keras_mixer import models

    keras.utils.set_random_seed(0)
    (images, labels), test = (_decoded(archive, split, limit) for split in ("train", "test"))
    model = getattr(models, row.builder)(
        **row.small, input_shape=(32, 32, 3), classes=10, classifier_activation=None, stochastic_depth=0.0
    )
    steps = epochs * (len(images) // BATCH)
    warm_up = max(1, steps // 20)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warm_up), warmup_target=PEAK_LEARNING_RATE, warmup_steps=warm_up
    )
    model.compile(
        keras.optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY),
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        metrics=["accuracy"],
    )
    start = time.perf_counter()
    model.fit(_batches(images, labels), epochs=epochs, shuffle=False, verbose=2)  # the stream shuffles itself
    seconds = time.perf_counter() - start
    _, accuracy = model.evaluate(_scaled(test[0]), tf.one_hot(test[1], 10), batch_size=BATCH, verbose=0)
    parameters = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    return {"accuracy": accuracy, "small_parameters": parameters, "training_seconds": seconds}


def _decoded(archive, split: str, limit: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Images `(n, 32, 32, 3)` as bytes, and their labels; see `benchmarks/unpack_jpegs.py` for the archive's layout."""
    with np.load(archive) as arrays:
        content, offsets, labels = (arrays[f"{split}_{part}"] for part in ("bytes", "offsets", "labels"))
    labels = labels[:limit]
    content = content.tobytes()
    images = [tf.io.decode_jpeg(content[offsets[i] : offsets[i + 1]], channels=3).numpy() for i in range(len(labels))]
    return np.stack(images), labels


def _scaled(images):
    return tf.cast(images, tf.float32) / 127.5 - 1.0


def _batches(images, labels) -> tf.data.Dataset:
    data = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(len(images), seed=0)
    data = data.batch(BATCH, drop_remainder=True)
    return data.map(_augmented, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _augmented(images, labels):
    images = tf.image.random_flip_left_right(_scaled(images))
    padded = tf.pad(images, [[0, 0], [PADDING, PADDING], [PADDING, PADDING], [0, 0]], constant_values=-1.0)
    corners = tf.random.uniform((BATCH, 2), 0, 2 * PADDING + 1, tf.int32)
    rows = corners[:, :1] + tf.range(32)
    columns = corners[:, 1:] + tf.range(32)
    cropped = tf.gather(tf.gather(padded, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)
    return cropped, tf.one_hot(labels, 10)
