"""Takes the arrays of a checkpoint to the resolution of a model while they are loaded."""

import functools
import math
from collections.abc import Callable, Mapping

import numpy as np

from keras_mixer.shapes import HIDDEN, TOKENS_IN, TOKENS_OUT
from keras_mixer.weights.reading.formats import Arrays, StoredArray
from keras_mixer.weights.resolution.grids import (
    block_diagonal,
    grid_of,
    line_axes,
    parts_between,
    resample,
    resample_line,
    square_grid,
    stem_of,
    token_axes,
)


def fit_to_grid(model, weights: Mapping, arrays: Arrays, image_size: tuple[int, int] | None = None) -> Arrays:
    """Takes the arrays over tokens, rows and columns to the model's resolution.

    An array that cannot be changed stays, and the loader reports its shape.

    Args:
        model: The model to load into.
        weights: Its variables by official name.
        arrays: Arrays by official name.
        image_size: Height and width in pixels that the arrays were trained at; None for a square image.
    """
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
    stem = stem_of(model)
    new = stem.grid
    if image_size is None and tokens == math.prod(new):
        return arrays
    old = grid_of(stem, image_size) if image_size else square_grid(tokens)
    if old == new or math.prod(old) != tokens:
        return arrays

    def shape(name: str, growth: int) -> tuple[int, ...]:
        """Returns the shape of an array at the new grid, with `growth` times the hidden units."""
        stored = zip(axes[name], arrays[name].shape, strict=True)
        grown = [(role, length * growth if role == HIDDEN else length) for role, length in stored]
        return tuple(math.prod(new) if role in (TOKENS_IN, TOKENS_OUT) else length for role, length in grown)

    parts = parts_between(old, new)
    growth = math.prod(parts) if parts else 1
    if any(shape(name, growth) != tuple(weights[name].shape) for name in axes):
        parts, growth = None, 1  # the model does not have hidden units for each part of the image
    changed = dict(arrays)
    for name, roles in axes.items():
        if parts:
            change = functools.partial(block_diagonal, roles=roles, old=old, parts=parts)
        else:
            change = functools.partial(resample, roles=roles, old=old, new=new)
        changed[name] = _changed(name, arrays[name], shape(name, growth), change)
    return changed


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
    array.check_size(name)  # the model does not decide the shape of this array
    return array.changed(shape, lambda values: change(np.asarray(values, "float32")))
