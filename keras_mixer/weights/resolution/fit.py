"""Converts the arrays of a checkpoint to the resolution and the image channels of a model while they are loaded."""

import functools
import logging
import math
from collections.abc import Callable, Mapping

import numpy as np

from keras_mixer.shapes import HIDDEN, OTHER, TOKENS_IN, TOKENS_OUT
from keras_mixer.weights.reading.checkpoint import named_weights
from keras_mixer.weights.reading.formats import Arrays, StoredArray
from keras_mixer.weights.resolution.grids import (
    Grid,
    block_diagonal,
    line_axes,
    parts_between,
    patch_layer,
    resample,
    resample_line,
    square_grid,
    token_axes,
)

_log = logging.getLogger(__name__)


def fit_to_grid(model, arrays: Arrays, old: Grid | None = None, parted: bool = True) -> Arrays:
    """Converts the arrays over tokens, rows and columns to the resolution of `model`.

    `old` is the checkpoint's grid; None assumes a square one. If `parted` and the model has enough hidden units, each
    part of a larger image gets a copy of the old weights. Otherwise the weights are resampled. An array that cannot be
    converted is returned unchanged, and the loader reports its shape.
    """
    weights = named_weights(model)
    arrays = _fit_lines(model, weights, arrays)
    axes = {
        name: roles
        for name, roles in token_axes(model).items()
        if name in arrays and len(arrays[name].shape) == len(roles)
    }
    lengths = {
        length
        for name, roles in axes.items()
        for role, length in zip(roles, arrays[name].shape, strict=True)
        if role in (TOKENS_IN, TOKENS_OUT)
    }
    if len(lengths) != 1:
        return arrays
    (tokens,) = lengths
    new = patch_layer(model).grid
    if old is None and tokens == math.prod(new):
        return arrays
    old = old or square_grid(tokens)
    if old == new or math.prod(old) != tokens:
        return arrays

    def shape(name: str, growth: int) -> tuple[int, ...]:
        """Returns the shape of an array at the new grid, with `growth` times the hidden units."""
        factors = {HIDDEN: growth, OTHER: 1}
        stored = zip(axes[name], arrays[name].shape, strict=True)
        return tuple(length * factors[role] if role in factors else math.prod(new) for role, length in stored)

    parts = parts_between(old, new) if parted else None
    growth = math.prod(parts) if parts else 1
    if any(shape(name, growth) != tuple(weights[name].shape) for name in axes):
        parts, growth = None, 1  # the model has too few hidden units for all parts of the image
    changed = dict(arrays)
    for name, roles in axes.items():
        if parts:
            change = functools.partial(block_diagonal, roles=roles, old=old, parts=parts)
        else:
            change = functools.partial(resample, roles=roles, old=old, new=new)
        changed[name] = _changed(name, arrays[name], shape(name, growth), change)
    return changed


def fit_to_channels(model, arrays: Arrays) -> Arrays:
    """Converts the stem's kernel to the image channels of `model` as timm does, see `keras_mixer.weights.load`."""
    name, weights = "stem/kernel", named_weights(model)
    if name not in weights or name not in arrays or len(arrays[name].shape) != 4:
        return arrays
    height, width, old, outputs = arrays[name].shape
    new = weights[name].shape[2]
    if new == old:
        return arrays

    def change(values):
        return values.sum(axis=2, keepdims=True) if new == 1 else values[:, :, np.arange(new) % old] * (old / new)

    how = "summed them" if new == 1 else "repeated and scaled them"
    _log.warning("%s: adapted weights for %d image channels to %d: %s.", model.name, old, new, how)
    return {**arrays, name: _changed(name, arrays[name], (height, width, new, outputs), change)}


def _fit_lines(model, weights: Mapping, arrays: Arrays) -> Arrays:
    """Resamples the weights over rows and columns whose length differs from the model's."""
    changed = dict(arrays)
    for name, channels in line_axes(model).items():
        shape = tuple(weights[name].shape)
        array = arrays.get(name)
        if array is None or array.shape == shape:
            continue
        if len(array.shape) == 2 and array.shape[0] == array.shape[1] and array.shape[0] % channels == 0:
            change = functools.partial(resample_line, channels=channels, length=shape[0] // channels)
            changed[name] = _changed(name, array, shape, change)
    return changed


def _changed(name: str, array: StoredArray, shape: tuple[int, ...], change: Callable) -> StoredArray:
    array.check_size(name)  # this shape was not compared with the model's
    return array.changed(shape, lambda values: change(np.asarray(values, "float64")))
