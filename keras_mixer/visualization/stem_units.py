"""The units of the stem as small colour pictures (figure 7)."""

import keras
import numpy as np

from keras_mixer.visualization.parts import stem_of
from keras_mixer.visualization.token_units import spatial_frequency


def stem_units(model: keras.Model, sort: bool = True) -> np.ndarray:
    """Returns the pattern in a patch that each unit of the stem responds to.

    Args:
        model: A model that starts in a `keras_mixer.layers.PatchEmbedding`.
        sort: Whether to sort by spatial frequency, low ones first, as the token-mixing units are; otherwise by index.

    Returns:
        Colours in [0, 1] of shape `(units, patch height, patch width, 3)`: a weight of 0 is mid grey, and the largest
        of a unit, by magnitude, is black or full colour. Kernels of other than three image channels give their mean
        over these, as grey.

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
