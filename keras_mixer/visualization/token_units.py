"""The hidden units of a token-mixing MLP as maps over the image, paired with their inverses (figure 5)."""

import dataclasses

import keras
import numpy as np

from keras_mixer.layers.helpers import HIDDEN, TOKENS_IN
from keras_mixer.visualization.parts import block_of, grid_of


@dataclasses.dataclass(frozen=True)
class UnitPairs:
    """Units of opposite phase, from low to high frequency.

    Attributes:
        units: The two units of each pair, the lower index first, `(pairs, 2)`.
        opposition: How close one is to the inverse of the other: minus the cosine between them, 1 for exact inverses.
        frequency: Mean spatial frequency of the two, in cycles per image.
        unpaired: The unit that is left over where their number is odd.
    """

    units: np.ndarray
    opposition: np.ndarray
    frequency: np.ndarray
    unpaired: int | None = None


def token_mixing_units(model: keras.Model, block: int, channel: int = 0) -> np.ndarray:
    """Returns what each hidden unit of a token-mixing MLP sums over the patches.

    Args:
        model: A Mixer.
        block: Index of the block, counted from 0.
        channel: Which MLP, where each channel has its own (`untied`), or which place in the group, where channels are
            joined (`channel_groups`). Of no meaning otherwise.

    Returns:
        Weights of the first layer, `(hidden units, rows, columns)`, one map over the patches for each unit.

    Raises:
        ValueError: If the model has no such block or channel, or the block reads tokens that are no patches.

    Example:
        >>> keras_mixer.visualization.token_mixing_units(keras_mixer.MixerB16(), block=0).shape
        (384, 14, 14)
    """
    mixing = block_of(model, block).token_mixing
    roles, name = mixing.token_axes["Dense_0/kernel"], "Dense_0/kernel"
    kernel = keras.ops.convert_to_numpy(mixing.dense_0.kernel).astype("float32")
    if kernel.ndim > 2:
        if not 0 <= channel < kernel.shape[0]:
            raise ValueError(f"Block {block} has {kernel.shape[0]} token-mixing kernels; got channel {channel}.")
        kernel, roles = kernel[channel], roles[1:]
    if roles != (TOKENS_IN, HIDDEN):
        raise ValueError(f"The weight {name} of block {block} has axes {roles}, not one map over tokens per unit.")
    rows, columns = grid_of(model, kernel.shape[0])
    return kernel.T.reshape(-1, rows, columns)


def spatial_frequency(maps: np.ndarray) -> np.ndarray:
    """Returns the mean spatial frequency of each map, weighted by power, in cycles per image.

    Args:
        maps: `(n, rows, columns)`. The mean of a map counts as frequency 0, so that noise on a constant stays low.

    Returns:
        Frequencies `(n,)`; 0 for a map of zeros.
    """
    _, rows, columns = maps.shape
    power = np.abs(np.fft.fft2(maps)) ** 2
    cycles = np.hypot(np.fft.fftfreq(rows, 1 / rows)[:, None], np.fft.fftfreq(columns, 1 / columns))
    total = power.sum(axis=(1, 2))
    return (power * cycles).sum(axis=(1, 2)) / np.where(total > 0, total, 1.0)


def pair_units(maps: np.ndarray) -> UnitPairs:
    """Pairs each unit with the one nearest to its inverse, and sorts the pairs by frequency (appendix D).

    The paper names the heuristic, low frequencies first and opposite phases side by side, and not how it is computed.
    Here the two units with the most opposite weights become the first pair, the most opposite two of the rest the
    next, and so on, whatever their scale; equal ones go by index, so that the result is always the same.

    Args:
        maps: `(units, rows, columns)`.

    Returns:
        The pairs. Every unit is in exactly one, but for the last of an odd number.

    Raises:
        ValueError: If `maps` does not have three axes.
    """
    maps = np.asarray(maps, np.float64)
    if maps.ndim != 3:
        raise ValueError(f"Expected maps of shape (units, rows, columns), but got {maps.shape}.")
    count = len(maps)
    flat = maps.reshape(count, -1)
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    flat = flat / np.where(norms > 0, norms, 1.0)
    first, second = np.triu_indices(count, k=1)
    cosines = (flat @ flat.T)[first, second]
    free = np.ones(count, bool)
    chosen = []
    for index in np.argsort(cosines, kind="stable"):
        one, other = first[index], second[index]
        if free[one] and free[other]:
            free[[one, other]] = False
            chosen.append(index)
            if len(chosen) == count // 2:
                break
    units = np.stack([first[chosen], second[chosen]], axis=1)
    frequency = spatial_frequency(maps)[units].mean(axis=1)
    order = np.argsort(frequency, kind="stable")
    left = np.flatnonzero(free)
    return UnitPairs(units[order], -cosines[chosen][order], frequency[order], int(left[0]) if len(left) else None)
