"""CycleFC beside the forms that need no thought, on the backend of `KERAS_BACKEND`: prints one line of JSON.

The naive forms: a sparse convolution, whose kernel spans all three places and is zero at two of them; and reading
every value from its own address, as a deformable convolution of whole offsets does.
"""

import json
import os
import random
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import ops

from keras_mixer.layers import CycleFC

# Channels and side of the feature map in the first and the third stage of B1 to B4 at 224 px.
SHAPES = ((64, 56), (320, 14))
BATCH, ROUNDS = 8, 101


def forms(layer, channels: int, side: int) -> dict:
    """Functions of a feature map that give the same result."""
    kernel = ops.convert_to_numpy(layer.kernel)
    offsets = (np.arange(channels) + 1) % 3 - 1
    sparse = np.zeros((1, 3, channels, channels), "float32")
    sparse[0, offsets + 1, np.arange(channels)] = kernel
    sparse, kernel, bias = (ops.convert_to_tensor(values) for values in (sparse, kernel, np.zeros(channels, "float32")))
    addresses = ((np.arange(side)[:, None] + 1 + offsets) * channels + np.arange(channels)).ravel()

    def addressed(maps):
        padded = ops.reshape(ops.pad(maps, [[0, 0], [0, 0], [1, 1], [0, 0]]), (-1, (side + 2) * channels))
        rows = ops.reshape(ops.take(padded, addresses, axis=1), (-1, channels))
        return ops.reshape(ops.matmul(rows, kernel) + bias, (-1, side, side, channels))

    return {
        "CycleFC": layer,
        "sparse convolution": lambda maps: ops.conv(maps, sparse, padding="same") + bias,
        "value by value": addressed,
    }


def compiled(function):
    """The function as the backend runs it fastest."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, autograph=False)
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    import torch

    return torch.no_grad()(function)


def main():
    results = {}
    for channels, side in SHAPES:
        maps = ops.convert_to_tensor(np.random.default_rng(0).normal(size=(BATCH, side, side, channels)).astype("f4"))
        layer = CycleFC(axis=2)
        layer.build(maps.shape)
        functions = {name: compiled(function) for name, function in forms(layer, channels, side).items()}
        answers = {name: ops.convert_to_numpy(function(maps)) for name, function in functions.items()}
        for answer in answers.values():
            np.testing.assert_allclose(answer, answers["CycleFC"], rtol=1e-3, atol=1e-4)
        times = {name: [] for name in functions}
        turns = random.Random(0)
        for _ in range(ROUNDS):
            # In an order of their own each time: what ran before leaves its traces in the caches.
            for name in turns.sample(list(functions), len(functions)):
                start = time.perf_counter()
                ops.convert_to_numpy(functions[name](maps))
                times[name].append(time.perf_counter() - start)
        results[f"{channels} channels, {side} x {side}"] = {
            name: 1e3 * statistics.median(values) for name, values in times.items()
        }
    print(json.dumps(results))


if __name__ == "__main__":
    main()
