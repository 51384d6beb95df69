"""Finds the weights of a model that depend on its grid of tokens, whatever the architecture."""

import math

from keras_mixer.layers.helpers import TOKENS_IN, TOKENS_OUT
from keras_mixer.weights.grids import Grid


def token_axes(model) -> dict[str, tuple[str, ...]]:
    """Returns the roles of the axes of every token-dependent weight, by official name."""
    return {
        f"{layer.name}/{name}": roles
        for layer in model.layers
        for name, roles in getattr(layer, "token_axes", {}).items()
    }


def line_axes(model) -> dict[str, int]:
    """Returns, by official name, every weight over a row or column of the map: channels of each of its places."""
    return {
        f"{layer.name}/{name}": channels
        for layer in model.layers
        for name, channels in getattr(layer, "line_axes", {}).items()
    }


def stem_of(model):
    """Returns the layer that cuts the model's images into patches.

    Raises:
        ValueError: If the model has none, or several.
    """
    stems = [layer for layer in model.layers if hasattr(layer, "patch_size") and hasattr(layer, "grid")]
    if len(stems) != 1:
        raise ValueError(
            f"Expected a model with one layer that cuts images into patches, as `keras_mixer.layers.PatchEmbedding`, "
            f"but {model.name!r} has {len(stems)}."
        )
    return stems[0]


def check_one_grid(model, weights: dict) -> None:
    """Raises unless every axis over tokens of `weights` has the grid of the model's patches.

    Raises:
        ValueError: If one has another number of tokens, as in a model whose blocks change it.
    """
    grid = stem_of(model).grid
    for name, roles in token_axes(model).items():
        for role, length in zip(roles, weights[name].shape, strict=True):
            if role in (TOKENS_IN, TOKENS_OUT) and length != math.prod(grid):
                raise ValueError(
                    f"{name} is a weight over {length} tokens, not over the {grid[0]} x {grid[1]} patches of an image: "
                    "the resolution of a model whose blocks change the number of tokens cannot be changed."
                )


def grid_of(stem, image_size: tuple[int, int]) -> Grid:
    """Returns the rows and columns of patches in an image.

    Raises:
        ValueError: If the patch does not divide the image.
    """
    stem.compute_output_shape((None, *image_size, stem.kernel.shape[2]))  # raises where the patch does not fit
    return image_size[0] // stem.patch_size[0], image_size[1] // stem.patch_size[1]
