"""Takes the arrays of a checkpoint to the resolution of a model, while loading."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from keras_mixer.layers.helpers import HIDDEN, TOKENS_IN, TOKENS_OUT
from keras_mixer.weights.grids import Grid, block_diagonal, parts_between, resample, resample_line
from keras_mixer.weights.naming import named_weights
from keras_mixer.weights.stored import StoredArray
from keras_mixer.weights.token_weights import grid_of, line_axes, stem_of, token_axes

_Axes = Mapping[str, Sequence[str]]  # of each weight, the roles of its axes


def fit_to_grid(
    model, arrays: dict[str, StoredArray], image_size: tuple[int, int] | None = None
) -> dict[str, StoredArray]:
    """Replaces the token-dependent arrays of a checkpoint by their equals at the model's resolution.

    Args:
        model: The model to load into.
        arrays: Arrays by official name.
        image_size: Height and width in pixels that the arrays were trained at; None for a square image.

    Returns:
        All arrays; the ones given where no change is needed, or none is possible and the loader will say why.

    Raises:
        ValueError: If `image_size` is no multiple of the patch, or unknown and the tokens are no square.
    """
    weights = named_weights(model)
    arrays = _fit_lines(model, weights, arrays)
    axes = {
        name: roles
        for name, roles in token_axes(model).items()
        if name in arrays and len(arrays[name].shape) == len(roles)
    }
    tokens = stored_tokens(arrays, axes)
    if tokens is None:
        return arrays
    stem = stem_of(model)
    if image_size is None and tokens == math.prod(stem.grid):
        return arrays
    old = grid_of(stem, image_size) if image_size else square_grid(tokens)
    if old == stem.grid or math.prod(old) != tokens:
        return arrays

    parts = parts_between(old, stem.grid)
    if parts and any(
        _grown_shape(arrays[name].shape, roles, math.prod(parts)) != tuple(weights[name].shape)
        for name, roles in axes.items()
    ):
        parts = None  # the model has no hidden units for each part
    changed = dict(arrays)
    for name, roles in axes.items():
        array = arrays[name].believed(name)
        if parts:
            shape = tuple(weights[name].shape)
            change = functools.partial(block_diagonal, roles=roles, old=old, parts=parts)
        else:
            shape = tuple(
                math.prod(stem.grid) if role in (TOKENS_IN, TOKENS_OUT) else length
                for role, length in zip(roles, array.shape, strict=True)
            )
            change = functools.partial(resample, roles=roles, old=old, new=stem.grid)
        changed[name] = dataclasses.replace(array, shape=shape, read=_compose(change, array.read))
    return changed


def _fit_lines(model, weights: Mapping, arrays: dict[str, StoredArray]) -> dict[str, StoredArray]:
    """Resamples the weights over rows and columns whose length differs from the model's."""
    changed = dict(arrays)
    for name, channels in line_axes(model).items():
        shape = tuple(weights[name].shape)
        if name not in arrays or arrays[name].shape == shape:
            continue
        array = arrays[name].believed(name)
        if len(array.shape) == 2 and array.shape[0] == array.shape[1] and array.shape[0] % channels == 0:
            change = functools.partial(resample_line, channels=channels, length=shape[0] // channels)
            changed[name] = dataclasses.replace(array, shape=shape, read=_compose(change, array.read))
    return changed


def stored_tokens(arrays: Mapping[str, StoredArray], axes: _Axes) -> int | None:
    """Returns the number of tokens that the arrays were trained with, or None if they do not agree on one."""
    tokens = {
        length
        for name, roles in axes.items()
        for role, length in zip(roles, arrays[name].shape, strict=True)
        if role in (TOKENS_IN, TOKENS_OUT)
    }
    return tokens.pop() if len(tokens) == 1 else None


def square_grid(tokens: int) -> Grid:
    """Returns the rows and columns of a square image of `tokens` patches.

    Raises:
        ValueError: If there is none.
    """
    side = math.isqrt(tokens)
    if not tokens or side * side != tokens:
        raise ValueError(
            f"The checkpoint's {tokens} tokens are no square grid: say its image size in pixels, as (height, width)."
        )
    return side, side


def _grown_shape(shape: Sequence[int], roles: Sequence[str], count: int) -> tuple[int, ...]:
    grows = (TOKENS_IN, TOKENS_OUT, HIDDEN)
    return tuple(length * count if role in grows else length for role, length in zip(roles, shape, strict=True))


def _compose(change: Callable, read: Callable[[], np.ndarray]) -> Callable[[], np.ndarray]:
    return lambda: change(np.asarray(read(), "float32"))
