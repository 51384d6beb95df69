"""Reads the weights in Keras's own files, `.weights.h5` and `.keras`, without building a model from them.

Most damage ends in an error, but not all: the HDF5 library beneath can loop for ever on a few broken files. Where a
file comes from strangers, prefer `.npz` or `.safetensors`.
"""

import contextlib
import io
import zipfile
from collections.abc import Iterator

import h5py

from keras_mixer.weights.stored import StoredArray

_WEIGHTS = "model.weights.h5"  # the entry of a .keras archive that holds the variables


@contextlib.contextmanager
def read_weights_h5(path) -> Iterator[dict[str, StoredArray]]:
    """Opens a `.weights.h5` file (or its bytes) and yields its arrays as `layer name/.../number`."""
    with h5py.File(path, "r") as file:
        layers = _member(file, "layers")
        if layers is None:
            raise ValueError('it has no group "layers", which Keras 3 writes')
        arrays: dict[str, StoredArray] = {}
        _collect(layers, "", arrays)
        yield arrays


@contextlib.contextmanager
def read_keras(path) -> Iterator[dict[str, StoredArray]]:
    """Opens a `.keras` file and yields the arrays of its weights; its configuration is not read."""
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(_WEIGHTS)
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{_WEIGHTS} in it is compressed, which Keras does not do")
        content = archive.read(entry)  # in one piece, so that its check sum is compared
    with read_weights_h5(io.BytesIO(content)) as arrays:
        yield arrays


def _collect(group: h5py.Group, prefix: str, arrays: dict[str, StoredArray]) -> None:
    """Walks the groups of layers; the group `vars` of each holds its name and its variables by number."""
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
            arrays[key] = _array(_member(variables, number), key)
    for child in group:
        if child != "vars":
            inner = _member(group, child)
            if isinstance(inner, h5py.Group):
                _collect(inner, prefix, arrays)


def _member(group: h5py.Group, name: str):
    """Returns a member that lies in this very file: a link elsewhere would read what the file was not given."""
    if name not in group:
        return None
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{group.name}/{name} is a link")
    return group[name]


def _array(dataset, key: str) -> StoredArray:
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        raise ValueError(f"{key} is not a plain array")
    size = dataset.id.get_storage_size()
    # Keras saves bfloat16 as raw bytes and names the true dtype beside it.
    dtype = dataset.attrs.get("dtype", dataset.dtype.name)
    if dtype == "bfloat16":
        import ml_dtypes

        return StoredArray(dataset.shape, dtype, lambda: dataset[()].view(ml_dtypes.bfloat16), size)
    return StoredArray(dataset.shape, str(dtype), lambda: dataset[()], size)
