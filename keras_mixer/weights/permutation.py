"""The same function of a permuted image (section 3.5 of the paper)."""

from collections.abc import Sequence

import keras
import numpy as np

from keras_mixer.layers.token_axes import TOKENS_IN, TOKENS_OUT
from keras_mixer.weights.naming import named_weights
from keras_mixer.weights.resolution import clone_uncompiled, copy_frozen, copy_preprocessing, copy_weights
from keras_mixer.weights.token_weights import line_axes, stem_of, token_axes


def permute(
    model,
    patch_permutation: Sequence[int] | np.ndarray | None = None,
    pixel_permutation: Sequence[int] | np.ndarray | None = None,
) -> keras.Model:
    """Returns a new model that gives for permuted images what `model` gives for the originals.

    A Mixer treats neither patches nor the pixels in a patch by their place: permuting them in the image is undone by
    permuting the rows of the stem and the token axes of the token MLPs.

    Args:
        model: A functional model that starts in a `keras_mixer.layers.PatchEmbedding`.
        patch_permutation: Position i of the permuted image holds patch `patch_permutation[i]` of the original, both in
            raster order. None leaves the patches in place.
        pixel_permutation: Position i of each permuted patch holds pixel `pixel_permutation[i]` of the original one,
            in raster order; the channels of a pixel stay together. None leaves the pixels in place.

    Returns:
        A new model, not compiled, whose outputs on permuted images equal those of `model` on the originals. A model
        that ends in tokens gives them in the order of the permuted patches.

    Raises:
        ValueError: If an argument is no permutation of the right length, or the model treats patches by their place.

    Example:
        >>> order = np.random.default_rng(0).permutation(196)
        >>> shuffled = keras_mixer.weights.permute(keras_mixer.MixerB16(), patch_permutation=order)
    """
    stem = stem_of(model)
    if patch_permutation is not None and line_axes(model):
        raise ValueError(
            f"{model.name!r} mixes along rows and columns, so that no weights make up for patches in another order. "
            "Leave `patch_permutation` out: pixels within the patches can be permuted."
        )
    patch_height, patch_width = stem.patch_size
    tokens = _permutation("patch_permutation", patch_permutation, stem.grid[0] * stem.grid[1])
    pixels = _permutation("pixel_permutation", pixel_permutation, patch_height * patch_width)

    def reordered(weight: np.ndarray, roles) -> np.ndarray:
        for axis, role in enumerate(roles):
            # Where a block changes the number of tokens, what comes after it is not in the order of the patches.
            if role in (TOKENS_IN, TOKENS_OUT) and weight.shape[axis] == len(tokens):
                weight = np.take(weight, tokens, axis=axis)
        return weight

    permuted = clone_uncompiled(model)
    copy_weights(model, permuted, token_axes(model), reordered)
    kernel = named_weights(permuted)[f"{stem.name}/kernel"]
    rows = keras.ops.convert_to_numpy(kernel).reshape(patch_height * patch_width, -1)
    kernel.assign(rows[pixels].reshape(kernel.shape))
    copy_frozen(model, permuted)
    copy_preprocessing(model, permuted)
    return permuted


def _permutation(name: str, value, length: int) -> np.ndarray:
    if value is None:
        return np.arange(length)
    permutation = np.asarray(value)
    if permutation.shape != (length,) or not np.array_equal(np.sort(permutation), np.arange(length)):
        raise ValueError(
            f"`{name}` must hold each of the integers 0 to {length - 1} once, but got "
            f"{'an array' if permutation.size > 8 else repr(permutation.tolist())} of shape {permutation.shape}."
        )
    return permutation
