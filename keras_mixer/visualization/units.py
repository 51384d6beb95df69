"""The units of token mixing (figure 5 of the paper) and of the stem (figure 7), and the features of tokens."""

import dataclasses
import math

import keras
import numpy as np

from keras_mixer.shapes import positive_integer
from keras_mixer.visualization.parts import block_of, checked_index, grid_of, several_images, stem_of


@dataclasses.dataclass(frozen=True)
class UnitPairs:
    """Units of opposite phase, from low to high frequency.

    Attributes:
        units: The two units of each pair, the lower index first, `(pairs, 2)`.
        opposition: Minus the cosine between the two, `(pairs,)`; 1 if one is a negative multiple of the other.
        frequency: Mean spatial frequency of the two, in cycles per image, `(pairs,)`.
        unpaired: The unit left over if the number of units is odd.
    """

    units: np.ndarray
    opposition: np.ndarray
    frequency: np.ndarray
    unpaired: int | None = None


def token_mixing_units(model: keras.Model, block: int, channel: int = 0) -> np.ndarray:
    """Returns the weights that each hidden unit of a token-mixing MLP gives to the patches.

    Args:
        model: A Mixer.
        block: Index of the block, counted from 0.
        channel: If each channel has its own MLP (`untied`), the index of the channel. If channels are joined
            (`channel_groups`), the index within the group. Ignored otherwise.

    Returns:
        Weights of the first layer, `(hidden units, rows, columns)`, one map over the patches for each unit.

    Raises:
        ValueError: If the block or channel does not exist, or the block reads tokens that are not patches.

    Example:
        >>> keras_mixer.visualization.token_mixing_units(keras_mixer.MixerB16(), block=0).shape
        (384, 14, 14)
    """
    mixing = block_of(model, block).token_mixing
    kernel = keras.ops.convert_to_numpy(mixing.dense_0.kernel).astype("float32")
    if kernel.ndim > 2:
        message = f"Block {block} has {len(kernel)} token-mixing kernels; got channel {channel!r}."
        kernel = kernel[checked_index(channel, len(kernel), message)]
    rows, columns = grid_of(model, kernel.shape[0])
    return kernel.T.reshape(-1, rows, columns)


def spatial_frequency(maps: np.ndarray) -> np.ndarray:
    """Returns the mean spatial frequency of each map, weighted by power, in cycles per image.

    Args:
        maps: `(n, rows, columns)`. The mean of a map counts as frequency 0.

    Returns:
        Frequencies `(n,)`; 0 for a map of zeros.

    Raises:
        ValueError: If `maps` does not have three axes.
    """
    maps = np.asarray(maps)
    if maps.ndim != 3:
        raise ValueError(f"Expected maps of shape (n, rows, columns), but got {maps.shape}.")
    _, rows, columns = maps.shape
    power = np.abs(np.fft.fft2(maps)) ** 2
    cycles = np.hypot(np.fft.fftfreq(rows, 1 / rows)[:, None], np.fft.fftfreq(columns, 1 / columns))
    total = power.sum(axis=(1, 2))
    return (power * cycles).sum(axis=(1, 2)) / np.where(total > 0, total, 1.0)


def pair_units(maps: np.ndarray) -> UnitPairs:
    """Pairs units of opposite phase and sorts the pairs by frequency (appendix D of the paper).

    The paper shows low frequencies first and opposite phases side by side, but does not say how it finds the pairs.
    Here the two units with the most opposite weights are the first pair, the most opposite two of the rest are the
    next, and so on. Scale does not matter. Ties are broken by index.

    Args:
        maps: `(units, rows, columns)`.

    Returns:
        The pairs. Each unit is in exactly one pair, except one unit if their number is odd.

    Raises:
        ValueError: If `maps` does not have three axes.
    """
    maps = np.asarray(maps, np.float64)
    if maps.ndim != 3:
        raise ValueError(f"Expected maps of shape (units, rows, columns), but got {maps.shape}.")
    count = len(maps)
    flat = maps.reshape(count, math.prod(maps.shape[1:]))
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


def stem_units(model: keras.Model, sort: bool = True) -> np.ndarray:
    """Returns the pattern in a patch that each unit of the stem responds to.

    Args:
        model: A model whose first layer is a `keras_mixer.layers.PatchEmbedding`.
        sort: Whether to sort by spatial frequency, lowest first; otherwise units are in the order of their index.

    Returns:
        Colours in [0, 1] of shape `(units, patch height, patch width, 3)`. A weight of 0 becomes 0.5, and the weight of
        largest magnitude in a unit becomes 0 or 1. If images do not have three channels, the mean over the channels is
        shown as grey.

    Raises:
        ValueError: If the model does not cut images into patches.

    Example:
        >>> keras_mixer.visualization.stem_units(keras_mixer.MixerB16()).shape
        (768, 16, 16, 3)
    """
    kernel = keras.ops.convert_to_numpy(stem_of(model).kernel).astype("float32")
    units = np.moveaxis(kernel, -1, 0)  # (units, patch height, patch width, image channels)
    if units.shape[-1] != 3:
        units = np.repeat(units.mean(axis=-1, keepdims=True), 3, axis=-1)
    if sort:
        units = units[np.argsort(spatial_frequency(units.mean(axis=-1)), kind="stable")]
    largest = np.abs(units).max(axis=(1, 2, 3), keepdims=True)
    return 0.5 + 0.5 * units / np.where(largest > 0, largest, 1.0)


@dataclasses.dataclass(frozen=True)
class FeaturePCA:
    """Principal components of tokens.

    Attributes:
        maps: Coordinates of each token, `(images, rows, columns, components)`.
        explained: Share of the tokens' variance along each component, largest first.
    """

    maps: np.ndarray
    explained: np.ndarray


def feature_pca(model: keras.Model, images: np.ndarray, block: int, components: int = 3) -> FeaturePCA:
    """Projects the tokens after a block onto principal components, which are computed over all images together.

    Args:
        model: A Mixer.
        images: Preprocessed images, `(n, height, width, channels)`.
        block: Index of the block, counted from 0.
        components: Number of components.

    Returns:
        The components. The sign of each makes its largest loading positive.

    Raises:
        ValueError: If the block does not exist, the images do not fit the model, or there are fewer tokens or channels
            than components.

    Example:
        >>> keras_mixer.visualization.feature_pca(model, images, block=-1).maps.shape
        (8, 14, 14, 3)
    """
    layer, components = block_of(model, block), positive_integer("components", components)
    tables = keras.Model(model.inputs, layer.output).predict(several_images(model, images), verbose=0)
    rows, columns = grid_of(model, tables.shape[1])
    tokens = tables.reshape(-1, tables.shape[-1]).astype("float64")
    if components > min(tokens.shape):
        raise ValueError(f"{tokens.shape[0]} tokens of {tokens.shape[1]} channels do not have {components} components.")
    tokens -= tokens.mean(axis=0)
    # Eigenvectors of the covariance are cheaper than an SVD, because there are fewer channels than tokens.
    variances, directions = np.linalg.eigh(tokens.T @ tokens)
    directions = directions[:, ::-1][:, :components]
    largest = np.abs(directions).argmax(axis=0)
    directions *= np.sign(directions[largest, np.arange(components)])
    total = variances.sum()
    explained = np.maximum(variances[::-1][:components], 0.0) / (total if total > 0 else 1.0)
    return FeaturePCA((tokens @ directions).reshape(len(tables), rows, columns, components), explained)
