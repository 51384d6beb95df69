"""Reads the formats of checkpoint files. Pickle is never read.

Whatever a file holds, reading it returns arrays or raises a ValueError or an OSError. Other errors of a parser become a
ValueError that names the file. Prefer `.npz` or `.safetensors` for files that you do not trust, because the HDF5
library hangs on a few damaged files.
"""

import contextlib
import dataclasses
import errno
import functools
import io
import json
import math
import os
import re
import textwrap
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import numpy as np

from keras_mixer import fields
from keras_mixer.preprocessing import Preprocessing

_MAX_PACKING = 64  # largest ratio of an array's size to its bytes in the file; trained weights hardly compress
_ANY_PACKING = 2**24  # bytes of an array that need no check: the zeros of a fresh head compress a thousandfold
_ITEM_SIZES = {"float16": 2, "bfloat16": 2, "float64": 8}  # bytes; others count as 4


@dataclasses.dataclass(frozen=True)
class StoredArray:
    """One array of a checkpoint. Its shape and dtype are known before its values are read."""

    shape: tuple[int, ...]
    dtype: str  # its name, such as "float32"
    read: Callable[[], np.ndarray]  # raises ValueError or OSError if the file is damaged
    stored_bytes: int  # its size in the file

    def check_size(self, name: str) -> None:
        """Raises ValueError if the array's bytes in the file are too few for its shape.

        Call it before reading an array whose shape was not compared with the model's.
        """
        size = math.prod(self.shape) * _ITEM_SIZES.get(self.dtype, 4)
        if size > max(self.stored_bytes * _MAX_PACKING, _ANY_PACKING):
            raise ValueError(
                f"The checkpoint is damaged: {name} of shape {self.shape} takes only {self.stored_bytes} bytes in it."
            )

    def transposed(self, *axes: int) -> Self:
        """Returns the array with its axes in this order."""
        shape = tuple(self.shape[axis] for axis in axes)
        return self.changed(shape, lambda values: values.transpose(axes))

    def reshaped(self, *shape: int) -> Self:
        """Returns the array in another shape of the same size."""
        return self.changed(shape, lambda values: values.reshape(shape))

    def changed(self, shape: tuple[int, ...], change: Callable[[np.ndarray], np.ndarray]) -> Self:
        """Returns an array of another shape, whose `read` applies `change` to the values."""
        return dataclasses.replace(self, shape=shape, read=lambda: change(self.read()))


Arrays = dict[str, StoredArray]


@contextlib.contextmanager
def open_arrays(path: Path) -> Iterator[Arrays]:
    """Opens a checkpoint file and yields its arrays by their names in the file."""
    reader = _reader_of(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint file {path}.")
    with contextlib.ExitStack() as stack:
        with _damage_named(path):
            arrays = stack.enter_context(reader(path))
        # The context manager is a decorator as well.
        yield {n: dataclasses.replace(array, read=_damage_named(path)(array.read)) for n, array in arrays.items()}


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Turns a parser's errors into a ValueError that names the file. Errors of the operating system pass through."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError, FileNotFoundError, PermissionError):
        raise
    except BaseException as error:  # a parser written in Rust panics with a BaseException of its own
        # A parser's OSError has no number, or comes from seeking to an impossible position. Others are the system's.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL, errno.EOVERFLOW):
            raise
        text = textwrap.shorten(str(error), 200, placeholder="...") or type(error).__name__
        raise ValueError(f"{path} is not a readable checkpoint: {text}") from error


_MAX_HEADER = 10_000  # bytes of an array's header; NumPy writes about 100
# NumPy's parser accepts other texts with a warning, such as integers of Python 2 ("4L") or escapes in strings.
_HEADER = re.compile(rb"""(?:[ \n{}()\[\],:]|(['"])[\w<>|=?]*\1|\b(?:True|False|\d+)\b)*""")


@contextlib.contextmanager
def _npz(path: Path) -> Iterator[Arrays]:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if len({entry.filename for entry in entries}) != len(entries):
            raise ValueError("it holds two entries of the same name")
        for entry in entries:
            if not entry.filename.endswith(".npy"):
                raise ValueError(f"its entry {entry.filename!r} is not an array")
        yield {entry.filename.removesuffix(".npy"): _npy(archive, entry) for entry in entries}


def _npy(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> StoredArray:
    with archive.open(entry) as file:
        shape, fortran_order, dtype = _npy_header(file)
    if dtype.hasobject:
        raise ValueError(f"its entry {entry.filename!r} holds Python objects, which are never read")

    def read() -> np.ndarray:
        with archive.open(entry) as file:
            _npy_header(file)
            size = dtype.itemsize * math.prod(shape)
            values = file.read(size + 1)  # reading one byte more makes zipfile verify the checksum
        if len(values) != size:
            raise ValueError(f"{entry.filename} should hold {size} bytes of values")
        return np.frombuffer(values, dtype).reshape(shape, order="F" if fortran_order else "C")

    array = StoredArray(shape, dtype.name, read, entry.compress_size)
    # NumPy saves bfloat16 as raw bytes.
    return _as_bfloat16(array) if dtype.kind == "V" and dtype.itemsize == 2 and dtype.names is None else array


def _npy_header(file) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    parsers = {(1, 0): (2, np.lib.format.read_array_header_1_0), (2, 0): (4, np.lib.format.read_array_header_2_0)}
    if version not in parsers:
        raise ValueError(f"version {version} of the npy format is not supported")
    width, parse = parsers[version]
    length = file.read(width)
    text = file.read(min(int.from_bytes(length, "little"), _MAX_HEADER + 1))
    if len(text) > _MAX_HEADER or not _HEADER.fullmatch(text):
        raise ValueError("the header of an array differs from what NumPy writes")
    return parse(io.BytesIO(length + text))


@contextlib.contextmanager
def _safetensors(path: Path) -> Iterator[Arrays]:
    from safetensors import safe_open

    names = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
    with safe_open(path, framework="np") as file:
        arrays = {}
        for key in file.keys():  # noqa: SIM118 - not a mapping
            view = file.get_slice(key)
            shape, dtype = tuple(view.get_shape()), view.get_dtype()
            size = 4 * math.prod(shape)  # the library has checked that the file holds these bytes
            arrays[key] = StoredArray(shape, names.get(dtype, dtype), functools.partial(file.get_tensor, key), size)
        yield arrays


@contextlib.contextmanager
def _weights_h5(file_or_path) -> Iterator[Arrays]:
    """Yields the arrays as `layer/.../number`, because Keras numbers the weights of a layer."""
    import h5py

    with h5py.File(file_or_path, "r") as file:
        layers = _member(file, "layers")
        if layers is None:
            raise ValueError('it does not have the group "layers", which Keras 3 writes')
        arrays: Arrays = {}
        _collect(layers, "", arrays)
        yield arrays


@contextlib.contextmanager
def _keras(path: Path) -> Iterator[Arrays]:
    """Yields the arrays of the weights in a `.keras` file."""
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo("model.weights.h5")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{entry.filename} in it is compressed, which Keras does not do")
        content = archive.read(entry)  # reading all of it verifies the checksum
    with _weights_h5(io.BytesIO(content)) as arrays:
        yield arrays


def recorded_preprocessing(path: Path) -> Preprocessing | None:
    """Returns the preprocessing in the configuration of a `.keras` file; None if there is none that can be read."""
    if not path.name.endswith(".keras"):
        return None
    with contextlib.suppress(ValueError, LookupError, RecursionError), zipfile.ZipFile(path) as archive:
        return _preprocessing_in(json.loads(archive.read("config.json")))
    return None


def _preprocessing_in(config) -> Preprocessing | None:
    if isinstance(config, dict) and isinstance(config.get("preprocessing"), dict):
        return fields.read(Preprocessing, config["preprocessing"])
    inside = config.values() if isinstance(config, dict) else config if isinstance(config, list) else ()
    return next((found for one in inside if (found := _preprocessing_in(one))), None)


def _collect(group, prefix: str, arrays: Arrays) -> None:
    """Adds the arrays of a layer and its sublayers. The group `vars` holds the layer's name and numbered variables."""
    import h5py

    variables = _member(group, "vars")
    if variables is not None:
        name = variables.attrs.get("name")
        if not isinstance(name, str):
            raise ValueError(f"the layer {group.name} has no name; save it again with Keras 3.13 or later")
        prefix = f"{prefix}/{name}" if prefix else name
        for number in variables:
            key = f"{prefix}/{number}"
            if key in arrays:
                raise ValueError(f"it holds {key} twice")
            arrays[key] = _dataset(_member(variables, number), key)
    for child in group:
        if child != "vars":
            inner = _member(group, child)
            if isinstance(inner, h5py.Group):
                _collect(inner, prefix, arrays)


def _member(group, name: str):
    """Returns a member of the group, or None. A link is refused, because it may point outside the file."""
    import h5py

    if name not in group:
        return None
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{group.name}/{name} is a link")
    return group[name]


def _dataset(dataset, key: str) -> StoredArray:
    import h5py

    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        raise ValueError(f"{key} is not a plain array")
    size = dataset.id.get_storage_size()
    # Keras saves bfloat16 as raw bytes and names the true dtype in an attribute.
    dtype = str(dataset.attrs.get("dtype", dataset.dtype.name))
    array = StoredArray(dataset.shape, dtype, lambda: dataset[()], size)
    return _as_bfloat16(array) if dtype == "bfloat16" else array


def _as_bfloat16(array: StoredArray) -> StoredArray:
    """Returns an array of raw bytes as the bfloat16 values that they are."""
    import ml_dtypes

    whole = array.changed(array.shape, lambda values: values.view(ml_dtypes.bfloat16))
    return dataclasses.replace(whole, dtype="bfloat16")


_READERS: dict[str, Callable] = {
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".weights.h5": _weights_h5,
    ".keras": _keras,
}
SUFFIXES = tuple(_READERS)
_PICKLES = (".pth", ".pt", ".pth.tar", ".bin", ".pkl", ".pickle", ".ckpt")


def check_suffix(path: Path) -> None:
    """Raises ValueError if the suffix of a file is not that of a supported format."""
    _reader_of(path)


def _reader_of(path: Path) -> Callable:
    for suffix, reader in _READERS.items():
        if path.name.endswith(suffix):
            return reader
    if path.name.endswith(_PICKLES):
        raise ValueError(
            f"{path} is a pickle. Reading a pickle can run any code, so this package never does. Convert the file with "
            f'PyTorch, which can read the weights alone: `state = torch.load("{os.path.basename(path)}", '
            'map_location="cpu", weights_only=True)`, then `state = state["model"]` or `state["state_dict"]` if it has '
            "such a key, then `safetensors.torch.save_file({key: value.contiguous() for key, value in state.items()}, "
            f'"{path.stem}.safetensors")`.'
        )
    hint = " Keras loads a checkpoint in shards: `model.load_weights`." if path.name.endswith(".weights.json") else ""
    raise ValueError(f"{path} is not a checkpoint: its name should end in one of {', '.join(_READERS)}.{hint}")
