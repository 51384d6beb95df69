"""What the layouts of PyTorch checkpoints have in common."""

import dataclasses
import re
from collections.abc import Callable

from keras_mixer.weights.stored import StoredArray

# A pattern of keys, the official name that a match stands for, and what the array needs to become the weight.
Rule = tuple[str, Callable[[re.Match], str], Callable[[StoredArray], StoredArray]]

LEAF = {"weight": "kernel", "bias": "bias"}
NORM_LEAF = {"weight": "scale", "bias": "bias"}
BATCH_NORM_LEAF = {**NORM_LEAF, "running_mean": "moving_mean", "running_var": "moving_variance"}
AFFINE_LEAF = {"alpha": "scale", "beta": "bias"}


def same(array: StoredArray) -> StoredArray:
    """The array as it is."""
    return array


def dense(array: StoredArray) -> StoredArray:
    """PyTorch keeps a linear layer's weight as (outputs, inputs); a bias, which has one axis, comes back as it is."""
    return array.transposed(1, 0)


def convolution(array: StoredArray) -> StoredArray:
    """PyTorch keeps a convolution's weight as (outputs, inputs, height, width); a bias comes back as it is."""
    return array.transposed(2, 3, 1, 0)


def depthwise(array: StoredArray) -> StoredArray:
    """PyTorch keeps a depthwise weight as (channels, 1, height, width), Keras as (height, width, channels, 1)."""
    return array.transposed(2, 3, 0, 1)


def pointwise(array: StoredArray) -> StoredArray:
    """A 1 x 1 convolution's weight, (outputs, inputs, 1, 1), to the (inputs, outputs) of a linear layer."""
    if array.shape[2:] != (1, 1):
        return array
    return dataclasses.replace(
        array, shape=(array.shape[1], array.shape[0]), read=lambda: array.read()[:, :, 0, 0].transpose()
    )


def channels(array: StoredArray) -> StoredArray:
    """One value for each channel, without the axes of length 1 that broadcast it."""
    if array.shape[:-1] != (1,) * (len(array.shape) - 1):
        return array
    return dataclasses.replace(array, shape=array.shape[-1:], read=lambda: array.read().reshape(array.shape[-1:]))
