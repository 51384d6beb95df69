"""Loading and saving weights. Loading is strict and atomic: all weights are checked before the first is assigned."""

import contextlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_mixer.files import written_whole
from keras_mixer.hub import HubAddress, is_address
from keras_mixer.layers.patches import ImageReader
from keras_mixer.models.catalogue import ARCHITECTURES, at_shape, build
from keras_mixer.models.image_model import ImageModel
from keras_mixer.preprocessing import Preprocessing
from keras_mixer.weights.published.cache import available, file_of, find, from_hub, is_path
from keras_mixer.weights.reading.checkpoint import (
    Checkpoint,
    assign_weights,
    layers_before_stem,
    named_weights,
    open_checkpoint,
    weight_values,
)
from keras_mixer.weights.reading.formats import Arrays, StoredArray
from keras_mixer.weights.resolution.fit import fit_to_channels, fit_to_grid
from keras_mixer.weights.resolution.grids import grid_at, line_axes, patch_layer, token_axes

_DTYPES = ("float16", "bfloat16", "float32", "float64")
_LISTED = 20  # keys of one kind in a message
_log = logging.getLogger(__name__)


def load(
    model,
    source: "str | os.PathLike | Checkpoint",
    skip: Sequence[str] = (),
    resize: bool | tuple[int, int] = False,
    adapt_channels: bool = False,
) -> None:
    """Loads weights into `model`. If anything does not fit, the model is not changed.

    If the model was built on an `input_tensor`, layers before the stem keep their weights unless the file holds them.
    What a training run saves beside the weights, such as the state of an optimizer or a moving average, is left out.
    An `ImageModel` gets the `preprocessing` of the weights if it is known: that of a published set, or what a `.keras`
    file records.

    Args:
        model: A built Keras model whose weights have the official names, as `keras_mixer.Mixer` makes them.
        source: The name of a published set for the model's variant, such as "imagenet21k"; an address on the Hugging
            Face hub, hf://OWNER/REPO[@REVISION][/FILE]; or the path of an official `.npz` (either layout), a
            `.safetensors` with timm's or the authors' names, a `.weights.h5` or a `.keras` file. To find a published
            set, the variant is told by the name of the model or else by the shapes of its weights.
        skip: Weights that are not loaded: official names or their first parts, such as "head" or
            "MixerBlock_0/token_mixing".
        resize: Whether to convert weights of another resolution to the model's, as `change_resolution` does. Token MLPs
            become block-diagonal if the model has enough hidden units; otherwise they are resampled. True assumes that
            the weights are for square images. For others, pass the image size (height, width) in pixels.
        adapt_channels: Whether to convert the stem to the model's number of image channels. A single channel gets the
            sum over the file's channels. Several channels get the file's channels cyclically, scaled so that an image
            of equal channels gives the same tokens as before. A warning is logged.

    Raises:
        ValueError: If the file is damaged or does not fit, or the model is quantised. The message lists all weights
            that are missing or unexpected, or have another shape or dtype.
        OSError: If the file cannot be read or fetched.

    Example:
        >>> model = keras_mixer.MixerS32(classes=10)
        >>> keras_mixer.weights.load(model, "gsam", skip=("head",))
    """
    weights = named_weights(model)
    with _open(model, source, skip) as checkpoint:
        path, arrays = checkpoint.path, checkpoint.named_for(weights)
        _check_skip(skip, [*weights, *arrays, *checkpoint.arrays])
        before = [layer for layer in layers_before_stem(model) if not any(_is_of(name, (layer,)) for name in arrays)]
        weights = {name: variable for name, variable in weights.items() if not _is_of(name, (*skip, *before))}
        arrays = {name: array for name, array in arrays.items() if not _is_of(name, skip)}
        if resize:
            old = None if isinstance(resize, bool) or not token_axes(model) else grid_at(patch_layer(model), resize)
            arrays = fit_to_grid(model, arrays, old)
        if adapt_channels:
            arrays = fit_to_channels(model, arrays)
        _check_names_and_shapes(path, model, weights, arrays)
        values = {name: _values(path, name, arrays[name], variable) for name, variable in weights.items()}
        preprocessing = _preprocessing_for(model, checkpoint)
    assign_weights(model, values)
    if preprocessing is not None:
        model.preprocessing = preprocessing


def load_with_fresh_head(  # noqa: D417
    model, source: "str | os.PathLike | Checkpoint", resize: bool | tuple[int, int] = False
) -> None:
    """Loads weights as `load` does, but keeps the model's own head if the numbers of classes differ.

    A warning is logged in that case. The stem is adapted to another number of image channels.

    Args:
        model: A built Keras model, with or without a head.
        source, resize: As in `load`.

    Raises:
        ValueError: If the file is damaged, or weights other than the head do not fit. The model is not changed.
        OSError: If the file cannot be read or fetched.
    """
    classes = next((layer.units for layer in model.layers if layer.name == "head"), None)
    with _open(model, source) as checkpoint:
        stored = checkpoint.classes
        if classes is not None and classes != stored:
            theirs = f"that in {checkpoint.path} has {stored}" if stored else f"{checkpoint.path} has none"
            _log.warning("%s: the head for %d classes starts fresh, because %s.", model.name, classes, theirs)
        load(model, checkpoint, () if classes == stored else ("head",), resize, adapt_channels=True)


def _preprocessing_for(model, checkpoint: Checkpoint) -> Preprocessing | None:
    """Returns the preprocessing of a checkpoint for the images that the model reads; None if it is unknown."""
    if checkpoint.preprocessing is None or not isinstance(model, ImageModel):
        return None
    readers = [layer for layer in model.layers if isinstance(layer, ImageReader)]
    shape = (readers[0].input if readers else model.inputs[0]).shape[1:]
    return at_shape(checkpoint.preprocessing, shape) if len(shape) == 3 else None


def _open(model, source, skip: Sequence[str] = ()) -> contextlib.AbstractContextManager[Checkpoint]:
    if isinstance(source, Checkpoint):
        return contextlib.nullcontext(source)
    if is_path(source):
        return open_checkpoint(source)
    if is_address(source):  # the variant does not matter
        return open_checkpoint(from_hub(HubAddress.parse(str(source))))
    entry = find(_variant_of(model, str(source), skip), str(source))
    return open_checkpoint(file_of(entry), entry.preprocessing)


def _variant_of(model, source: str, skip: Sequence[str]) -> str:
    """Returns the variant of the model's name, or else the one with a set `source` and weights of the same shapes."""
    if model.name in ARCHITECTURES:
        return model.name
    variants = [entry.variant for entry in available() if entry.name == source]
    stems = [layer for layer in model.layers if layer.name == "stem"]
    for variant in variants if stems else ():
        twin = build(variant, include_top=False, input_shape=tuple(stems[0].input.shape[1:]))
        if _shapes_of_any_size(twin, skip) == _shapes_of_any_size(model, skip):
            return variant
    raise ValueError(
        f"The model {model.name!r} matches no variant with published weights {source!r} "
        f"({', '.join(variants) or 'none'}), neither by its name nor by its sizes. Pass the path of a checkpoint, such "
        "as a .npz, .safetensors, .weights.h5 or .keras file."
    )


def _shapes_of_any_size(model, skip: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the weights that depend neither on the size of the images nor on the classes."""
    others = ("head", *skip, *token_axes(model), *line_axes(model), *layers_before_stem(model))
    return {name: tuple(weight.shape) for name, weight in named_weights(model).items() if not _is_of(name, others)}


def _check_skip(skip: Sequence[str], names: Sequence[str]) -> None:
    if isinstance(skip, str):
        raise ValueError(f"`skip` must be a sequence of names, but got the string {skip!r}. Use ({skip!r},).")
    for part in skip:
        if not any(_is_of(name, (part,)) for name in names):
            raise ValueError(f"`skip` names {part!r}, which is neither in the model nor in the checkpoint.")


def _is_of(name: str, parts: Sequence[str]) -> bool:
    return any(name == part or name.startswith(part.rstrip("/") + "/") for part in parts)


def _check_names_and_shapes(path: Path, model, weights: dict, arrays: Arrays) -> None:
    missing = [name for name in weights if name not in arrays]
    unexpected = [name for name in arrays if name not in weights]
    shared = [name for name in weights if name in arrays]
    misshaped = [name for name in shared if tuple(arrays[name].shape) != tuple(weights[name].shape)]
    problems = {
        "missing": missing,
        "unexpected": unexpected,
        "wrong shape": [f"{n} {tuple(arrays[n].shape)} instead of {tuple(weights[n].shape)}" for n in misshaped],
        "wrong dtype": [f"{n} {arrays[n].dtype}" for n in shared if arrays[n].dtype not in _DTYPES],
    }
    if outer := _layer_of_a_larger_model(missing, unexpected):
        whole = f'keras.models.load_model("{path}")' if path.suffix == ".keras" else "larger"
        raise ValueError(
            f"{path} holds a larger model, whose layer {outer!r} has the weights of {model.name!r}. Load the larger "
            f"model and take the layer: `{whole}.get_layer({outer!r})`."
        )
    listed = "; ".join(_listed(kind, items) for kind, items in problems.items() if items)
    if not listed:
        return
    hint = ""
    if misshaped and set(misshaped) <= {*token_axes(model), *line_axes(model)}:
        hint = (
            " The checkpoint was trained at another resolution: load it with `resize=True`, or load it into a model of "
            "its own resolution and call `keras_mixer.weights.change_resolution`."
        )
    elif misshaped == ["stem/kernel"] and not missing and not unexpected:
        hint = " If only the number of image channels differs, load it with `adapt_channels=True`."
    elif {*missing, *unexpected, *misshaped} <= {"head/kernel", "head/bias"}:
        hint = ' Only the head differs: `skip=("head",)` leaves the model\'s own.'
    raise ValueError(f"{path} does not fit the model {model.name!r}: {listed}.{hint}")


def _layer_of_a_larger_model(missing: list[str], unexpected: list[str]) -> str | None:
    """Returns the first part of the unexpected names if every missing weight lies under it; None otherwise."""
    layers = {name.rpartition("/")[0] for name in unexpected}
    for outer in {name.partition("/")[0] for name in unexpected}:
        if missing and all(f"{outer}/{name.rpartition('/')[0]}" in layers for name in missing):
            return outer
    return None


def _listed(kind: str, items: list[str]) -> str:
    more = f" and {len(items) - _LISTED} more" if len(items) > _LISTED else ""
    return f"{kind}: {', '.join(items[:_LISTED])}{more}"


def _values(path: Path, name: str, array: StoredArray, variable) -> np.ndarray:
    """Reads one array and converts it to the variable's dtype."""
    import ml_dtypes  # noqa: F401 - NumPy then knows "bfloat16"

    values = array.read()
    with np.errstate(all="ignore"):
        values = np.asarray(values, str(variable.dtype), order="C")
        if not np.isfinite(values).all():
            raise ValueError(
                f"{path} holds values in {name} that are not finite in {variable.dtype}. Nothing was loaded."
            )
    return values


def save_npz(model, path: str | os.PathLike) -> None:
    """Writes all weights of `model` under their official names to a `.npz` file.

    Half-precision weights are written as float32, which holds them exactly, so that loading restores the same bits.
    LoRA matrices are merged into the kernels. A failure leaves no partial file.

    Args:
        model: A built Keras model.
        path: Where to write. The name must end in `.npz`. An existing file is replaced.

    Raises:
        ValueError: If the name has another ending, or the model is quantised or has no weights.
        OSError: If the file cannot be written.

    Example:
        >>> keras_mixer.weights.save_npz(model, "mixer.npz")
        >>> keras_mixer.weights.load(model, "mixer.npz")
    """
    path = Path(os.path.expanduser(path))
    if path.suffix != ".npz":
        raise ValueError(f"`path` must end in .npz, but got {str(path)!r}.")
    arrays: dict[str, Any] = {
        name: values if values.dtype == np.float64 else values.astype("float32")
        for name, values in weight_values(model).items()
    }
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent} to write {path.name} into.")
    with written_whole(path, durable=True) as partial:
        np.savez(partial, **arrays)
