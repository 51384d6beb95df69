"""Checks a cached file all the way: its hash, its contents, and that they are the weights they are said to be."""

import numpy as np

from keras_mixer.weights.cache import cached_path, verify
from keras_mixer.weights.inspection import sizes_of
from keras_mixer.weights.readers import open_checkpoint
from keras_mixer.weights.registry import WeightSet


def check_cached(entry: WeightSet) -> int:
    """Reads the cached file of a published set in full.

    Returns:
        The number of values in it.

    Raises:
        ValueError: If its sha256 is not the recorded one, it cannot be parsed, has values that are not finite, or has
            a head of other classes than the registry says.
        OSError: If it cannot be read, or is not in the cache.
    """
    path = cached_path(entry)
    verify(path)
    count = 0
    with open_checkpoint(path) as arrays:
        for name, array in arrays.items():
            if "float" not in array.dtype:
                raise ValueError(f"{path} holds {name}, whose dtype {array.dtype} is not that of weights.")
            values = array.believed(name).read()
            if not np.isfinite(values).all():
                raise ValueError(f"{path} holds values in {name} that are not finite.")
            count += values.size
    classes = sizes_of(path).classes
    if classes != entry.classes:
        raise ValueError(f"{path} has a head for {classes} classes instead of {entry.classes}.")
    return count
