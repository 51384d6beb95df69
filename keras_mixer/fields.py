"""The fields of dataclasses: their types are checked, and they are saved as JSON and read again."""

import dataclasses
import json
import types
import typing
from collections.abc import Callable
from typing import Any, Self

import numpy as np

from keras_mixer.shapes import integer, is_finite

_EXAMPLES = {int: "[224, 224]", float: "[0.003, 0.01]", str: '["first", "second"]'}
# Whether a value is of a kind: a float may be an integer, and True is no number.
_KINDS: dict[type, Callable[[Any], bool]] = {
    bool: lambda value: isinstance(value, bool | np.bool_),
    int: lambda value: integer(value) is not None,
    float: is_finite,
    str: lambda value: isinstance(value, str),
}


class JsonRecord:
    """A dataclass that can be written as JSON and read again."""

    def to_json(self) -> str:
        """Returns the record as an indented JSON object."""
        return json.dumps(dataclasses.asdict(self), indent=2)  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote.

        Raises:
            ValueError: If the text is not JSON, or a field is unknown, missing, of a wrong type or out of range.
        """
        return read(cls, json.loads(text))


def check_types(record) -> None:
    """Gives each field of a new frozen dataclass the type that it declares, as `read` does.

    NumPy's values become Python's. A dataclass among the fields is checked too.

    Raises:
        ValueError: If a value has a wrong type. The message names the field.
    """
    for name, kind in typing.get_type_hints(type(record)).items():
        object.__setattr__(record, name, _value(kind, getattr(record, name), name))


def read(cls, values: Any, prefix: str = ""):
    """Builds the dataclass `cls` from a JSON object.

    Lists become tuples and whole numbers become floats if the type of the field asks for it.

    Args:
        cls: A dataclass. Its fields are numbers, strings, booleans, tuples of these, JSON objects (`dict[str, Any]`),
            and other such dataclasses.
        values: The result of `json.loads`.
        prefix: Text before the names of fields in messages, such as "model.".

    Raises:
        ValueError: If `values` is not a JSON object, a field is unknown or missing, or a value has a wrong type. The
            message names the field.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{prefix.rstrip('.') or cls.__name__} must be a JSON object, but got {values!r}.")
    kinds = typing.get_type_hints(cls)
    unknown = sorted(prefix + name for name in set(values) - set(kinds))
    missing = [prefix + field.name for field in dataclasses.fields(cls) if field.name not in values and _needed(field)]
    if unknown or missing:
        raise ValueError(
            f"{cls.__name__} has the fields {', '.join(prefix + name for name in kinds)}; "
            f"unknown: {unknown or 'none'}, missing: {missing or 'none'}."
        )
    return cls(**{name: _value(kinds[name], value, prefix + name) for name, value in values.items()})


def _needed(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _value(kind, value, name: str):
    if dataclasses.is_dataclass(kind):
        return read(kind, vars(value) if type(value) is kind else value, name + ".")
    if isinstance(kind, types.UnionType):
        return value if value is None and type(None) in kind.__args__ else _value(_member(kind, value), value, name)
    if typing.get_origin(kind) is tuple:
        kinds = typing.get_args(kind)
        if not _is_list(value) or (kinds[-1] is not ... and len(value) != len(kinds)):
            raise ValueError(f"{name} must be a list such as {_EXAMPLES[kinds[0]]}, but got {value!r}.")
        return tuple(_value(kinds[0], item, name) for item in value)
    if typing.get_origin(kind) is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{name} must be a JSON object, but got {value!r}.")
        return value
    if not _KINDS[kind](value):
        wanted = "a finite number" if kind is float else f"of type {kind.__name__}"
        raise ValueError(f"{name} must be {wanted}, but got {value!r}.")
    return kind(value)


def _member(kind: types.UnionType, value):
    """Chooses the member of a union to read a value as: the tuple for a list, another member for anything else."""
    members = [member for member in kind.__args__ if member is not type(None)]
    wanted = _is_list(value)
    return next((one for one in members if wanted == (typing.get_origin(one) is tuple)), members[0])


def _is_list(value) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim == 1)
