"""Converts tensors between TF Serving's JSON and NumPy arrays."""

import base64
import json
import math
import re
from dataclasses import dataclass
from itertools import chain

import numpy as np

from keras_mixer.images import image_format
from keras_mixer.serving.errors import RequestError, invalid

_MAX_RANK = 32  # axes of an array in NumPy 1

# The JSON types that each kind of NumPy dtype is read from; strings are object arrays of bytes.
_LEAVES: dict[str, set[type]] = {"f": {int, float}, "i": {int}, "u": {int}, "b": {bool}, "O": {str, dict}}
_JSON_NAMES: dict[type, str] = {
    int: "integer",
    float: "decimal",
    bool: "boolean",
    str: "string",
    dict: "object",
    type(None): "null",
}


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a signature.

    Attributes:
        name: Its name.
        dtype: Its NumPy dtype; object for bytes.
        shape: Its shape, if it is known; None stands for an open axis.
        other: The signature that takes strings if this input takes numbers, or numbers if it takes strings.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int | None, ...] | None
    other: str = ""

    def check(self, dtype: np.dtype, shape: tuple[int, ...]) -> None:
        """Raises a RequestError unless an array of this type and shape fits this tensor."""
        if dtype != self.dtype:
            came = "string" if dtype.kind == "O" else dtype.name
            raise invalid(f"Input {self.name!r} must be of type {self.type}, but got {came}.{self.hint(came)}")
        if self.shape is not None and (
            len(shape) != len(self.shape)
            or any(want not in (None, have) for want, have in zip(self.shape, shape, strict=True))
        ):
            raise invalid(f"Input {self.name!r} must have shape {_text(self.shape)}, but got {_text(shape)}.")

    @property
    def type(self) -> str:
        """The type as messages name it."""
        return "string" if self.dtype.kind == "O" else self.dtype.name

    def hint(self, *came: str) -> str:
        """Returns a sentence that names the signature which takes what came, if there is one."""
        strings = not {"string", "object"}.isdisjoint(came)
        if not self.other or strings == (self.dtype.kind == "O"):
            return ""
        return f" The signature {self.other!r} takes {'image files' if strings else 'preprocessed images'}."


def _text(shape: tuple[int | None, ...]) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


def parse_json(body: bytes) -> dict:
    """Reads the JSON object that a request's body holds."""
    import orjson

    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = _lenient_json(body)
    if not isinstance(document, dict):
        raise invalid("The request's JSON must be an object.")
    return document


def _lenient_json(body: bytes):
    """Reads JSON as TF Serving's parser does: with NaN and infinities, and nothing that follows the value counts."""

    def number(text: str) -> float:
        if math.isinf(value := float(text)):
            raise invalid(f"JSON Parse error: {text[:40]} is too large for a number.")
        return value

    def integer(text: str) -> int:
        number(text)
        return int(text)

    try:
        text = body.decode("utf-8-sig").lstrip(" \t\r\n")
        # Possessive, and with the closing quote optional, because a body of megabytes may be one unfinished string.
        text = re.sub(
            r'"(?:[^"\\]++|\\.)*+"?|\bInf\b', lambda found: "Infinity" if found[0] == "Inf" else found[0], text
        )
        value = json.JSONDecoder(parse_float=number, parse_int=integer).raw_decode(text)[0]
        json.dumps(value, ensure_ascii=False).encode()  # fails if a text has half of a surrogate pair
        return value
    except (ValueError, RecursionError) as error:
        raise invalid(f"JSON Parse error: {_instead_of_json(body) or error}") from None


def _instead_of_json(body: bytes) -> str:
    """Says what a body is that is not JSON, if it is one of the usual ones."""
    image = '{"signature_name": "serving_bytes", "instances": [{"b64": "..."}]}'
    if found := image_format(body[:64]):
        return f"the body is a {found} file; send {image} with the file in base64"
    if re.match(rb"--[^\r\n]+\r?\nContent-", body, re.IGNORECASE):
        return f"the body is a form (multipart/form-data); send {image} with the file in base64"
    return ""


def from_json(value, spec: TensorSpec) -> np.ndarray:
    """Reads nested lists, numbers, strings and `{"b64": ...}` objects as an array of the type of `spec`.

    Raises a RequestError if lists are ragged or nested too deep, or an element has a wrong type.
    """
    level: list = [value]
    shape: list[int] = []
    types: set[type] = set()
    # Flattening the lists one axis at a time checks every element's type at the speed of `set` and `map`.
    while level and list in (types := set(map(type, level))):
        sizes = set(map(len, level)) if types == {list} else set()
        if len(sizes) != 1:
            raise invalid(f"Input {spec.name!r} is ragged: all lists at depth {len(shape)} must have one length.")
        shape.append(sizes.pop())
        if len(shape) > (_MAX_RANK if spec.shape is None else len(spec.shape)):
            want = f"at most {_MAX_RANK} axes" if spec.shape is None else f"shape {_text(spec.shape)}"
            raise invalid(f"Input {spec.name!r} must have {want}, but lists are nested deeper.{spec.hint()}")
        level = list(chain.from_iterable(level))
    allowed = _LEAVES.get(spec.dtype.kind)
    if allowed is None:
        raise RequestError("UNIMPLEMENTED", f"Input {spec.name!r} of type {spec.type} cannot be sent as JSON.")
    if wrong := set(map(type, level)) - allowed:
        came = sorted(_JSON_NAMES.get(kind, kind.__name__) for kind in wrong)
        raise invalid(
            f"Input {spec.name!r} must hold values of type {spec.type}, but got: {', '.join(came)}.{spec.hint(*came)}"
        )
    return _leaves(level, spec).reshape(shape)


def _leaves(values: list, spec: TensorSpec) -> np.ndarray:
    if spec.dtype.kind == "O":
        array = np.empty(len(values), dtype=object)
        array[:] = [_bytes(value, spec) for value in values]
        return array
    if spec.dtype.kind == "f":
        with np.errstate(over="ignore"):  # as in TF Serving, a number that float32 cannot hold becomes infinite
            return np.array(values, dtype=np.float64).astype(spec.dtype)
    try:
        wide = np.array(values, dtype=np.uint64 if spec.dtype == np.uint64 else np.int64)
    except OverflowError:
        raise invalid(f"Input {spec.name!r} holds a number that {spec.type} cannot hold.") from None
    if spec.dtype.kind in "iu" and values:
        bounds = np.iinfo(spec.dtype)
        if wide.min() < bounds.min or wide.max() > bounds.max:
            raise invalid(f"Input {spec.name!r} holds a number that {spec.type} cannot hold.")
    return wide.astype(spec.dtype)


def _bytes(value, spec: TensorSpec) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8")
    if set(value) != {"b64"} or not isinstance(value["b64"], str):
        raise invalid(f'Input {spec.name!r} must hold strings or {{"b64": "..."}} objects.')
    try:
        return base64.b64decode(value["b64"], validate=True)
    except ValueError:
        return _lenient_base64(value["b64"], spec)


def _lenient_base64(text: str, spec: TensorSpec) -> bytes:
    """Decodes as `absl::Base64Unescape` does: white space does not count, and all of the padding may be left out."""
    parts = re.fullmatch(r"([A-Za-z0-9+/]*)([=.]*)", re.sub(r"[ \t\n\v\f\r]", "", text))
    missing = -len(parts[1]) % 4 if parts else 3
    if parts is None or missing == 3 or len(parts[2]) not in (0, missing):
        cause = "expected the letters A-Z, a-z, 0-9, + and /"
        if text.startswith("data:"):
            cause = "it is a data URL; send only what follows its comma"
        elif re.fullmatch(r"[A-Za-z0-9_=\s-]+", text) and not set("-_").isdisjoint(text):
            cause = "it is base64 for addresses; write + for - and / for _"
        raise invalid(f"Input {spec.name!r} holds a value that is not base64: {cause}. Got {text[:40]!r}.")
    return base64.b64decode(parts[1] + "=" * missing)


def to_json(outputs: dict[str, np.ndarray], *, rows: bool) -> bytes:
    """Writes a response's body: `predictions` (rows) or `outputs` (columns). A single output has no name in it."""
    sizes = {array.shape[:1] for array in outputs.values()}
    if rows and (len(sizes) != 1 or () in sizes):
        raise invalid('The outputs do not share a batch axis: send columnar "inputs" instead of "instances".')
    # JSON lacks NaN and infinity, but TF Serving and Python's own module write them.
    finite = all(array.dtype.kind != "f" or np.isfinite(array).all() for array in outputs.values())
    if unknown := [name for name, array in outputs.items() if array.dtype.kind not in _LEAVES]:
        raise RequestError("UNIMPLEMENTED", f"Outputs cannot be written as JSON: {', '.join(unknown)}. Use gRPC.")
    columns = {name: _writable(name, array, as_list=not finite) for name, array in outputs.items()}
    body: object
    if len(columns) == 1:
        (body,) = columns.values()
    elif rows:
        body = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    else:
        body = columns
    body = {"predictions" if rows else "outputs": body}
    if not finite:
        return json.dumps(body).encode()
    import orjson

    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def _writable(name: str, array: np.ndarray, as_list: bool):
    if array.dtype.kind == "O":
        return _strings(array.tolist(), binary=name.endswith("_bytes"))
    if as_list:
        return array.tolist()
    return np.ascontiguousarray(array) if array.ndim else array[()]


def _strings(value, binary: bool):
    if isinstance(value, list):
        return [_strings(item, binary) for item in value]
    if binary:
        return {"b64": base64.b64encode(value).decode()}
    return value.decode("utf-8", errors="replace")
