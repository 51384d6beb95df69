"""Strict, atomic loading: every weight is checked before the first one is assigned."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_mixer.weights.cache import path_to_load
from keras_mixer.weights.fit_to_grid import fit_to_grid
from keras_mixer.weights.layouts import to_official_names
from keras_mixer.weights.naming import layers_before, named_weights, numbered_to_named
from keras_mixer.weights.readers import open_checkpoint
from keras_mixer.weights.stored import StoredArray
from keras_mixer.weights.token_weights import line_axes, token_axes

_DTYPES = ("float16", "bfloat16", "float32", "float64")
_LISTED = 20  # keys of one kind in a message


def load(
    model,
    source: str | os.PathLike,
    skip: Sequence[str] = (),
    resize: bool | tuple[int, int] = False,
) -> None:
    """Loads weights into `model`: all that it has, or none.

    Layers before the stem, where the model was built on an `input_tensor`, stay as they are unless the file holds them.

    Args:
        model: A built Keras model whose weights bear the official names, as `keras_mixer.Mixer` makes them.
        source: The name of a published set for the model's variant, as "imagenet21k", or the path of an official
            `.npz` (either layout), a timm-named `.safetensors`, a `.weights.h5` or a `.keras` file.
        skip: Weights to leave as they are, in the model and in the file: official names, or the first parts of them,
            as "head" or "MixerBlock_0/token_mixing".
        resize: Whether to take weights of another resolution to the model's, as `change_resolution` does. Where the
            model's token MLPs have the hidden units for it they become block-diagonal, else they are resampled. True
            takes the file's image to be square; a pair (height, width) in pixels says what it was.

    Raises:
        ValueError: If the file is damaged or does not fit: weights missing, unexpected, of another shape or dtype,
            not finite, all listed together. The model is then as it was.
        OSError: If the file cannot be read or fetched.

    Example:
        >>> model = keras_mixer.MixerS32(classes=10)
        >>> keras_mixer.weights.load(model, "gsam", skip=("head",))
    """
    path = resolve(source, model)
    weights = named_weights(model)
    with open_checkpoint(path) as stored:
        arrays = to_official_names(numbered_to_named(stored, weights))
        _check_skip(skip, [*weights, *arrays])
        left = [*skip, *(layer for layer in layers_before(model) if not _holds(arrays, layer))]
        weights = {name: variable for name, variable in weights.items() if not _is_of(name, left)}
        arrays = {name: array for name, array in arrays.items() if not _is_of(name, skip)}
        if resize:
            arrays = fit_to_grid(model, arrays, None if isinstance(resize, bool) else resize)
        _check_names_and_shapes(path, model, weights, arrays)
        values = {name: _values(path, name, arrays[name], variable) for name, variable in weights.items()}
    for name, variable in weights.items():
        variable.assign(values[name])


def resolve(source: str | os.PathLike, model) -> Path:
    """Returns the file that `source` names: a path, or a published set of the model's variant."""
    if is_path(source):
        return Path(source)
    from keras_mixer.weights.variant import variant_of

    return path_to_load(variant_of(model), str(source))


def is_path(source) -> bool:
    """Whether `source` is the path of a checkpoint rather than the name of a published set.

    Raises:
        ValueError: If it is neither.
    """
    if not isinstance(source, (str, os.PathLike)):
        raise ValueError(f"Weights come from the name of a published set or a path, but got {source!r}.")
    # No set has a dot in its name: "mixer.h5" is meant for a file, and the readers say which endings they know.
    return isinstance(source, os.PathLike) or "." in source or os.sep in source


def _check_skip(skip: Sequence[str], names: Sequence[str]) -> None:
    if isinstance(skip, str):
        raise ValueError(f"`skip` must be a sequence of names, but got the string {skip!r}. Use ({skip!r},).")
    for part in skip:
        if not any(_is_of(name, (part,)) for name in names):
            raise ValueError(f"`skip` names {part!r}, which is neither in the model nor in the checkpoint.")


def _is_of(name: str, skip: Sequence[str]) -> bool:
    return any(name == part or name.startswith(part.rstrip("/") + "/") for part in skip)


def _holds(arrays: dict[str, StoredArray], layer: str) -> bool:
    return any(_is_of(name, (layer,)) for name in arrays)


def _check_names_and_shapes(path: Path, model, weights: dict, arrays: dict[str, StoredArray]) -> None:
    missing = [name for name in weights if name not in arrays]
    unexpected = [name for name in arrays if name not in weights]
    shared = [name for name in weights if name in arrays]
    misshaped = {name for name in shared if tuple(weights[name].shape) != tuple(arrays[name].shape)}
    problems = [
        _listed("missing", missing),
        _listed("unexpected", unexpected),
        _listed(
            "of another shape",
            [
                f"{name} {tuple(arrays[name].shape)} instead of {tuple(weights[name].shape)}"
                for name in shared
                if name in misshaped
            ],
        ),
        _listed(
            "of another dtype",
            [f"{name} {arrays[name].dtype}" for name in shared if arrays[name].dtype not in _DTYPES],
        ),
    ]
    if not any(problems):
        return
    hints = ""
    if misshaped and misshaped <= {*token_axes(model), *line_axes(model)}:
        hints = (
            " The checkpoint was trained at another resolution: load it with `resize=True`, or into a model of its own "
            "resolution and call `keras_mixer.weights.change_resolution`."
        )
    elif {*missing, *unexpected, *misshaped} <= {"head/kernel", "head/bias"}:
        hints = ' Only the head differs: `skip=("head",)` leaves the model\'s own.'
    raise ValueError(f"{path} does not fit the model {model.name!r}: {'; '.join(filter(None, problems))}.{hints}")


def _listed(kind: str, items: list[str]) -> str:
    if not items:
        return ""
    more = f" and {len(items) - _LISTED} more" if len(items) > _LISTED else ""
    return f"{kind}: {', '.join(items[:_LISTED])}{more}"


def _values(path: Path, name: str, array: StoredArray, variable) -> np.ndarray:
    """Reads one array in the variable's own dtype."""
    import ml_dtypes

    dtype = ml_dtypes.bfloat16 if str(variable.dtype) == "bfloat16" else np.dtype(str(variable.dtype))
    values = array.read()
    with np.errstate(all="ignore"):
        values = np.asarray(values, dtype, order="C")
        if not np.isfinite(values).all():
            raise ValueError(
                f"{path} holds values in {name} that are not finite in {variable.dtype}. Nothing was loaded."
            )
    return values
