"""Writes a model's weights in the layout of the official checkpoints."""

import os
from pathlib import Path

import numpy as np

from keras_mixer.files import written_whole
from keras_mixer.weights.naming import named_weights


def save_npz(model, path: str | os.PathLike) -> None:
    """Writes every weight of `model` under its official name to a `.npz` file, whole or not at all.

    Weights of half precision are written as float32, which holds them exactly: loading the file gives the same bits.

    Args:
        model: A built Keras model.
        path: Where to write; the name must end in `.npz`. A file that is there is replaced.

    Raises:
        ValueError: If the name ends otherwise or the model has no weights.
        OSError: If the file cannot be written.

    Example:
        >>> keras_mixer.weights.save_npz(model, "mixer.npz")
        >>> keras_mixer.weights.load(model, "mixer.npz")
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"`path` must end in .npz, but got {str(path)!r}.")
    from keras import ops

    arrays = {}
    for name, variable in named_weights(model).items():
        values = ops.convert_to_numpy(variable)
        arrays[name] = values if values.dtype == np.float64 else values.astype("float32")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent} to write {path.name} into.")
    with written_whole(path, durable=True) as partial:
        np.savez(partial, **arrays)
