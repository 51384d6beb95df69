"""Weights over a grid of tokens, taken to another grid."""

import math
from collections.abc import Sequence

import numpy as np

from keras_mixer.layers.helpers import HIDDEN, OTHER, TOKENS_IN, TOKENS_OUT

Grid = tuple[int, int]  # rows and columns of tokens


def parts_between(old: Grid, new: Grid) -> Grid | None:
    """Returns how many times `old` fits into `new` along each axis, or None if not a whole number of times."""
    if new[0] % old[0] or new[1] % old[1]:
        return None
    return new[0] // old[0], new[1] // old[1]


def tokens_of_part(old: Grid, parts: Grid, part: Grid) -> np.ndarray:
    """Returns which tokens of the grown grid lie in one part, in raster order within the part.

    Tokens are in raster order over the whole image, so that the tokens of a part are not neighbours in the list.

    Returns:
        Indices of shape `(old rows * old columns,)`.
    """
    rows = part[0] * old[0] + np.arange(old[0])
    columns = part[1] * old[1] + np.arange(old[1])
    return (rows[:, None] * (parts[1] * old[1]) + columns).ravel()


def block_diagonal(weight: np.ndarray, roles: Sequence[str], old: Grid, parts: Grid) -> np.ndarray:
    """Gives each part of a grown image a copy of `weight` and hidden units of its own (appendix C of the paper).

    Args:
        weight: A weight or bias at the old grid.
        roles: Role of each of its axes, see `keras_mixer.layers.helpers`.
        old: Grid that the weight was trained at.
        parts: How many times it fits into the new grid along each axis.

    Returns:
        The weight at the new grid: each axis of tokens or hidden units `parts[0] * parts[1]` times as long, zero where
        two parts would meet.
    """
    count = parts[0] * parts[1]
    axes = list(zip(roles, weight.shape, strict=True))
    grown = np.zeros([length * (1 if role == OTHER else count) for role, length in axes], weight.dtype)
    for index in range(count):
        tokens = tokens_of_part(old, parts, divmod(index, parts[1]))
        places = []
        for role, length in axes:
            if role in (TOKENS_IN, TOKENS_OUT):
                places.append(tokens)
            else:
                places.append(np.arange(length) + (index * length if role == HIDDEN else 0))
        grown[np.ix_(*places)] = weight
    return grown


def resample(weight: np.ndarray, roles: Sequence[str], old: Grid, new: Grid) -> np.ndarray:
    """Resamples the maps in `weight` as images, antialiased; hidden units stay as they are.

    The layer then does what the old one did between two changes of size: it shrinks (or enlarges) the map of each
    channel to the old grid, applies the old weights, and takes the result to the new grid. A map over the tokens that
    are read therefore keeps its sum, and one over the tokens that are written its height. This is not from the paper.

    Returns:
        The weight at the new grid, of its own dtype.
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
    """Resamples a weight over a row or column of a map to a line of another length, as `resample` does for a map.

    Args:
        weight: Of shape `(old length * channels, old length * channels)`, read by written.
        channels: Channels of each place.
        length: Places of the new line.

    Returns:
        The weight of shape `(length * channels, length * channels)`, of its own dtype.
    """
    old = weight.shape[0] // channels
    places = weight.astype("float64").reshape(old, channels, old, channels)
    places = np.einsum("or,nw,rcwd->ocnd", _resize(length, old).T, _resize(old, length), places, optimize=True)
    return places.reshape(length * channels, length * channels).astype(weight.dtype)


def _resize(old: int, new: int) -> np.ndarray:
    """Returns the matrix `(new, old)` of a one-dimensional linear resize, whose triangle widens when shrinking."""
    reach = max(1.0, old / new)  # in old samples
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    weights = np.maximum(0.0, 1.0 - np.abs(centres[:, None] - np.arange(old)) / reach)
    return weights / weights.sum(axis=1, keepdims=True)
