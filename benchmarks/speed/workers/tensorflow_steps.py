"""Steps of a Keras model on TensorFlow, and the rate of TensorFlow's matrix product."""

import time

import numpy as np
import tensorflow as tf
from sizes import CLASSES, SIZES

PEAK_SIDE = 2048


def images_of(row) -> np.ndarray:
    """One batch of noise."""
    side = SIZES[row["variant"]][-1]
    return np.random.default_rng(0).normal(size=(row["batch"], side, side, 3)).astype("float32")


def inference(model, row):
    """A forward pass in graph mode."""
    forward = tf.function(lambda images: model(images, training=False), autograph=False, jit_compile=False)
    images = tf.constant(images_of(row))
    return lambda: forward(images).numpy() is None


def training(model, row):
    """Forward, backward, clipping and AdamW."""
    import keras

    model.compile(
        keras.optimizers.AdamW(1e-3, weight_decay=0.1, global_clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    labels = np.random.default_rng(0).integers(0, CLASSES, size=row["batch"])
    batches = iter(tf.data.Dataset.from_tensors((images_of(row), labels)).cache().repeat())
    model.make_train_function()
    return lambda: float(tf.nest.flatten(model.train_function(batches))[0]) is None


def matmul_flops(dtype):
    """A measure of the product's rate, in floating-point operations per second: the better of two tries."""
    left, right = (tf.cast(tf.random.normal((PEAK_SIDE, PEAK_SIDE)), dtype) for _ in range(2))
    product = tf.function(tf.matmul, autograph=False)

    def one_try() -> float:
        start = time.perf_counter()
        product(left, right).numpy()
        return 2.0 * PEAK_SIDE**3 / (time.perf_counter() - start)

    one_try()
    return lambda: max(one_try(), one_try())
