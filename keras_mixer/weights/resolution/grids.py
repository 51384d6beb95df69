"""Weights over a grid of tokens: which weights of a model are such, and how to convert them to another grid."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_mixer.shapes import HIDDEN, OTHER, TOKENS_IN, TOKENS_OUT

Grid = tuple[int, int]  # rows and columns of tokens


def token_axes(model, attribute: str = "token_axes") -> dict[str, Any]:
    """Returns what each axis of every weight over tokens stands for, by official name."""
    layers = {layer.name: getattr(layer, attribute, {}) for layer in model.layers}
    return {f"{layer}/{name}": declared for layer, weights in layers.items() for name, declared in weights.items()}


def line_axes(model) -> dict[str, int]:
    """Returns the channels per position of every weight over a row or column of a feature map, by official name."""
    return token_axes(model, "line_axes")


def patch_layer(model):
    """Returns the layer that cuts the model's images into patches; raises ValueError unless there is exactly one."""
    stems = [layer for layer in model.layers if hasattr(layer, "patch_size") and hasattr(layer, "grid")]
    if len(stems) != 1:
        raise ValueError(
            f"Expected a model with one layer that cuts images into patches, such as "
            f"`keras_mixer.layers.PatchEmbedding`, but {model.name!r} has {len(stems)}."
        )
    return stems[0]


def grid_at(stem, image_size: tuple[int, int]) -> Grid:
    """Returns the rows and columns of patches in an image."""
    stem.compute_output_shape((None, *image_size, stem.kernel.shape[2]))  # raises if the patch does not fit
    return image_size[0] // stem.patch_size[0], image_size[1] // stem.patch_size[1]


def square_grid(tokens: int) -> Grid:
    """Returns the rows and columns of a square image of `tokens` patches."""
    side = math.isqrt(tokens)
    if not tokens or side * side != tokens:
        raise ValueError(
            f"The checkpoint's {tokens} tokens are not a square grid: give its image size in pixels, (height, width)."
        )
    return side, side


def parts_between(old: Grid, new: Grid) -> Grid | None:
    """Returns how many times `old` fits into `new` along each axis; None if that is not a whole number."""
    if new[0] % old[0] or new[1] % old[1]:
        return None
    return new[0] // old[0], new[1] // old[1]


def block_diagonal(weight: np.ndarray, roles: Sequence[str], old: Grid, parts: Grid) -> np.ndarray:
    """Gives each part of an enlarged image its own copy of `weight` and its own hidden units (appendix C of the paper).

    Axes of tokens and of hidden units become `parts[0] * parts[1]` times as long. Weights between two parts are zero.
    """
    count = math.prod(parts)
    axes = list(zip(roles, weight.shape, strict=True))
    grown = np.zeros([length * (1 if role == OTHER else count) for role, length in axes], weight.dtype)
    for index in range(count):
        tokens = _tokens_of_part(old, parts, divmod(index, parts[1]))
        places = []
        for role, length in axes:
            if role in (TOKENS_IN, TOKENS_OUT):
                places.append(tokens)
            else:
                places.append(np.arange(length) + (index * length if role == HIDDEN else 0))
        grown[np.ix_(*places)] = weight
    return grown


def _tokens_of_part(old: Grid, parts: Grid, part: Grid) -> np.ndarray:
    """Returns the indices of the tokens in one part, in raster order over the enlarged image."""
    rows = part[0] * old[0] + np.arange(old[0])
    columns = part[1] * old[1] + np.arange(old[1])
    return (rows[:, None] * (parts[1] * old[1]) + columns).ravel()


def resample(weight: np.ndarray, roles: Sequence[str], old: Grid, new: Grid) -> np.ndarray:
    """Resamples the maps in `weight` like images, with antialiasing. Axes of hidden units do not change.

    The layer then has the effect of resizing each channel's map to the old grid, applying the old weights, and resizing
    the result to the new grid. A map over input tokens therefore keeps its sum, and a map over output tokens keeps its
    scale.
    """
    to_old = [_resize(length, to) for length, to in zip(new, old, strict=True)]
    to_new = [_resize(length, to) for length, to in zip(old, new, strict=True)]
    result = weight.astype("float64")
    for axis, role in enumerate(roles):
        if role in (HIDDEN, OTHER):
            continue
        rows, columns = (matrix.T for matrix in to_old) if role == TOKENS_IN else to_new
        maps = np.moveaxis(result, axis, 0)
        maps = maps.reshape(*old, *maps.shape[1:])  # (rows, columns, ...)
        maps = np.einsum("yr,xc,rc...->yx...", rows, columns, maps, optimize=True)
        result = np.moveaxis(maps.reshape(math.prod(new), *maps.shape[2:]), 0, axis)
    return result.astype(weight.dtype)


def resample_line(weight: np.ndarray, channels: int, length: int) -> np.ndarray:
    """Resamples a weight over a row or column to `length` positions of `channels` channels each, see `resample`."""
    old = weight.shape[0] // channels
    places = weight.reshape(old, channels, old, channels)
    places = resample(places, (TOKENS_IN, OTHER, TOKENS_OUT, OTHER), (old, 1), (length, 1))
    return places.reshape(length * channels, length * channels)


def _resize(old: int, new: int) -> np.ndarray:
    """Returns the matrix `(new, old)` of a 1-D linear resize, whose triangle filter widens when it shrinks."""
    reach = max(1.0, old / new)  # in old samples
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    weights = np.maximum(0.0, 1.0 - np.abs(centres[:, None] - np.arange(old)) / reach)
    return weights / weights.sum(axis=1, keepdims=True)
