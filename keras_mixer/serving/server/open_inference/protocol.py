"""What REST and gRPC share: datatypes, tensors as raw bytes, and the descriptions of the server and its models."""

import importlib.metadata
import math
import struct
from dataclasses import dataclass

import numpy as np

from keras_mixer.serving.errors import RequestError, invalid
from keras_mixer.serving.server.servable import Servable
from keras_mixer.serving.server.service import ModelSpec, PredictService, version_number
from keras_mixer.serving.server.tensors import TensorSpec

DATATYPES = {
    "BOOL": np.dtype(bool),
    **{f"{kind}{bits}": np.dtype(f"{kind.lower()}{bits}") for kind in ("INT", "UINT") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    "BYTES": np.dtype(object),
}
_NAMES = {dtype: name for name, dtype in DATATYPES.items()}
_PACKAGE = "keras_mixer"


@dataclass(frozen=True)
class InputTensor:
    """What a request declares of an input.

    Raises a RequestError if the datatype is unknown, or a side of the shape is negative.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]

    def __post_init__(self):
        if not isinstance(self.datatype, str) or self.datatype not in DATATYPES:
            known = ", ".join(DATATYPES)
            raise invalid(f"Input {self.name!r} must have a datatype of {known}, but got {self.datatype!r:.40}.")
        if any(size < 0 for size in self.shape):
            raise invalid(f"Input {self.name!r} declares a shape that is not accepted: {list(self.shape)}.")

    @property
    def dtype(self) -> np.dtype:
        """The NumPy dtype; object for bytes."""
        return DATATYPES[self.datatype]

    def array(self, values: list | np.ndarray) -> np.ndarray:
        """Returns the values of the tensor, a flat list or array, in its shape."""
        if isinstance(values, list):
            array = np.empty(len(values), self.dtype)
            try:
                array[:] = values
            except OverflowError:
                raise invalid(f"Input {self.name!r} holds a number that {self.datatype} cannot hold.") from None
            values = array
        if values.size != math.prod(self.shape):
            raise invalid(
                f"Input {self.name!r} has {values.size} values, but its shape {list(self.shape)} holds "
                f"{math.prod(self.shape)}."
            )
        try:
            return values.reshape(self.shape)
        except (ValueError, OverflowError):  # NumPy limits the number of axes, and a long axis beside one of zero
            raise invalid(f"Input {self.name!r} declares a shape that is not accepted.") from None

    def array_from_raw(self, raw: bytes | memoryview) -> np.ndarray:
        """Reads little-endian values of fixed size, or strings that follow their lengths."""
        if self.dtype.kind != "O":
            if len(raw) % self.dtype.itemsize:
                raise invalid(
                    f"Input {self.name!r} has {len(raw)} bytes, which is not a multiple of {self.dtype.itemsize}."
                )
            return self.array(np.frombuffer(raw, self.dtype.newbyteorder("<")).astype(self.dtype))
        strings, at = [], 0
        while at < len(raw):
            if at + 4 > len(raw) or at + 4 + (length := struct.unpack_from("<I", raw, at)[0]) > len(raw):
                raise invalid(f"Input {self.name!r} has a string that is cut short at byte {at}.")
            strings.append(bytes(raw[at + 4 : at + 4 + length]))
            at += 4 + length
        return self.array(strings)


def write_raw(array: np.ndarray) -> bytes:
    """Writes an array in the form that `InputTensor.array_from_raw` reads."""
    if array.dtype.kind == "O":
        return b"".join(struct.pack("<I", len(value)) + value for value in array.ravel())
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


def datatype_of(name: str, array: np.ndarray) -> str:
    """Returns the protocol's name for the type of an output."""
    if array.dtype not in _NAMES:
        raise RequestError("UNIMPLEMENTED", f"The protocol has no datatype for output {name!r} ({array.dtype.name}).")
    return _NAMES[array.dtype]


def model_spec(name: str, version: str) -> ModelSpec:
    """Returns the model that a request names. `version` is a number or a label; empty means the newest version."""
    if not version:
        return ModelSpec(name)
    if version.isascii() and version.isdigit():
        return ModelSpec(name, version_number(version))
    return ModelSpec(name, label=version)


def server_metadata() -> dict:
    """Returns the description of the server."""
    return {"name": _PACKAGE, "version": importlib.metadata.version(_PACKAGE), "extensions": ["binary_tensor_data"]}


def model_metadata(service: PredictService, servable: Servable) -> dict:
    """Returns the description of a model: the inputs and outputs of its default signature."""

    def tensor(spec: TensorSpec) -> dict:
        shape = [-1 if size is None else size for size in spec.shape or ()]
        return {"name": spec.name, "datatype": _NAMES.get(spec.dtype, spec.type), "shape": shape}

    signature = servable.signature("")
    return {
        "name": servable.name,
        "versions": [str(n) for n, state, _ in service.manager.status(servable.name) if state == "AVAILABLE"],
        "platform": "tensorflow_savedmodel",
        "inputs": [tensor(spec) for spec in signature.inputs.values()],
        "outputs": [tensor(spec) for spec in signature.outputs.values()],
    }
