"""Opens checkpoint files of every supported format; pickle is never read.

Whatever a file holds, opening and reading it gives arrays, a ValueError or an OSError: the parsers beneath raise many
other errors on damaged bytes, and all of them mean here that the file is damaged. A lack of memory is not the file's.
"""

import contextlib
import dataclasses
import errno
import functools
import io
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from keras_mixer.weights.stored import StoredArray

Arrays = dict[str, StoredArray]

_MAX_HEADER = 10_000  # bytes of an array's header; an honest one has about 100
# NumPy's parser takes other texts, as integers of Python 2 ("4L") or escapes in strings, with no more than a warning.
_HEADER = re.compile(rb"""(?:[ \n{}()\[\],:]|(['"])[\w<>|=?]*\1|\b(?:True|False|\d+)\b)*""")


@contextlib.contextmanager
def open_checkpoint(path: str | os.PathLike) -> Iterator[Arrays]:
    """Opens a checkpoint; its arrays can be read as long as the context lasts.

    Args:
        path: A `.npz`, `.safetensors`, `.weights.h5` or `.keras` file.

    Yields:
        Arrays by the names that the file gives them. Keras's files name a layer's weights by number, as `stem/0`.

    Raises:
        ValueError: If the format is unknown, or the file is damaged or holds anything but plain arrays.
        OSError: If the file cannot be read.
    """
    path = Path(path)
    reader = _reader_of(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint file {path}.")
    with contextlib.ExitStack() as stack:
        with damage_named(path):
            arrays = stack.enter_context(reader(path))
        yield {name: _guarded(array, path) for name, array in arrays.items()}


@contextlib.contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turns any error of a parser into one that names the file."""
    try:
        yield
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except BaseException as error:
        # The parser in Rust panics with a BaseException of its own; leave alone what is not an error of the file.
        if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError)) or _of_the_system(error):
            raise
        raise ValueError(f"{path} is not a readable checkpoint: {_brief(error)}") from error


def _of_the_system(error: BaseException) -> bool:
    """Whether the system could not read: parsers raise OSErrors without a number, or seek to where nothing can be."""
    return isinstance(error, OSError) and error.errno not in (None, errno.EINVAL, errno.EOVERFLOW)


def _guarded(array: StoredArray, path: Path) -> StoredArray:
    def read() -> np.ndarray:
        with damage_named(path):
            return array.read()

    return dataclasses.replace(array, read=read)


@contextlib.contextmanager
def _npz(path: Path) -> Iterator[Arrays]:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        names = [entry.filename for entry in entries]
        if len(set(names)) != len(names):
            raise ValueError("it holds two entries of one name")
        yield {_array_name(entry.filename): _npy(archive, entry) for entry in entries}


def _array_name(entry: str) -> str:
    if not entry.endswith(".npy"):
        raise ValueError(f"its entry {entry!r} is not an array")
    return entry.removesuffix(".npy")


def _npy(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> StoredArray:
    with archive.open(entry) as file:
        shape, fortran_order, dtype = _npy_header(file)
    if dtype.hasobject:
        raise ValueError(f"its entry {entry.filename!r} holds Python objects, which are never read")

    def read() -> np.ndarray:
        with archive.open(entry) as file:
            _npy_header(file)
            size = dtype.itemsize * int(np.prod(shape, dtype=object))
            values = file.read(size + 1)  # the attempt at one more byte makes zipfile check the sum
        if len(values) != size:
            raise ValueError(f"{entry.filename} should hold {size} bytes of values")
        return np.frombuffer(values, dtype).reshape(shape, order="F" if fortran_order else "C")

    return StoredArray(shape, dtype.name, read, entry.compress_size)


def _npy_header(file) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    parsers = {(1, 0): (2, np.lib.format.read_array_header_1_0), (2, 0): (4, np.lib.format.read_array_header_2_0)}
    if version not in parsers:
        raise ValueError(f"version {version} of the npy format is not supported")
    width, parse = parsers[version]
    length = file.read(width)
    text = file.read(min(int.from_bytes(length, "little"), _MAX_HEADER + 1))
    if len(text) > _MAX_HEADER or not _HEADER.fullmatch(text):
        raise ValueError("the header of an array is not as NumPy writes it")
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
            size = 4 * int(np.prod(shape, dtype=object))  # never packed, and its reader has checked the extent
            arrays[key] = StoredArray(shape, names.get(dtype, dtype), functools.partial(file.get_tensor, key), size)
        yield arrays


@contextlib.contextmanager
def _weights_h5(path: Path) -> Iterator[Arrays]:
    from keras_mixer.weights.keras_files import read_weights_h5

    with read_weights_h5(path) as arrays:
        yield arrays


@contextlib.contextmanager
def _keras(path: Path) -> Iterator[Arrays]:
    from keras_mixer.weights.keras_files import read_keras

    with read_keras(path) as arrays:
        yield arrays


_READERS: dict[str, Callable] = {
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".weights.h5": _weights_h5,
    ".keras": _keras,
}

_PICKLES = (".pth", ".pt", ".pth.tar", ".bin", ".pkl", ".pickle", ".ckpt")


def _reader_of(path: Path) -> Callable:
    for suffix, reader in _READERS.items():
        if path.name.endswith(suffix):
            return reader
    if path.name.endswith(_PICKLES):
        raise ValueError(
            f"{path} is a pickle, which can run any code when it is read: this package never reads one. Convert it "
            'with PyTorch, which reads weights alone from it: `state = torch.load("'
            f'{path.name}", map_location="cpu", weights_only=True)`, take `state["model"]` or `state["state_dict"]` '
            "where it has one, then `safetensors.torch.save_file({key: value.contiguous() for key, value in "
            f'state.items()}}, "{path.stem}.safetensors")`.'
        )
    raise ValueError(f"{path} is not a checkpoint: its name should end in one of {', '.join(_READERS)}.")


def _brief(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:200] + ("..." if len(text) > 200 else "")
