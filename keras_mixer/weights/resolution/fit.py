"""Takes the arrays of a checkpoint to the resolution of a model while they are loaded."""

import functools
import math
from collections.abc import Callable, Mapping

import numpy as np

from keras_mixer.shapes import OTHER, TOKENS_IN, TOKENS_OUT
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
    """Replaces the arrays over tokens, rows and columns by their equals at the model's resolution.

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

    parts = parts_between(old, new)
    count = math.prod(parts) if parts else 1
    grown = {
        name: tuple(
            length * (1 if role == OTHER else count) for role, length in zip(roles, arrays[name].shape, strict=True)
        )
        for name, roles in axes.items()
    }
    changed = dict(arrays)
    if any(grown[name] != tuple(weights[name].shape) for name in axes):
        parts = None  # the model does not have hidden units for each part of the image
    for name, roles in axes.items():
        if parts:
            change = functools.partial(block_diagonal, roles=roles, old=old, parts=parts)
            changed[name] = _changed(name, arrays[name], grown[name], change)
        else:
            shape = tuple(
                math.prod(new) if role in (TOKENS_IN, TOKENS_OUT) else length
                for role, length in zip(roles, arrays[name].shape, strict=True)
            )
            change = functools.partial(resample, roles=roles, old=old, new=new)
            changed[name] = _changed(name, arrays[name], shape, change)
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
