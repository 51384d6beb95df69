"""Dataclasses that are saved as JSON. Reading checks all names and types."""

import dataclasses
import json
import math
import types
import typing
from typing import Any, Self

_EXAMPLES = {int: "[224, 224]", float: "[0.003, 0.01]", str: '["first", "second"]'}


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
        return read(kind, value, name + ".")
    if isinstance(kind, types.UnionType):
        return value if value is None and type(None) in kind.__args__ else _value(_member(kind, value), value, name)
    if typing.get_origin(kind) is tuple:
        kinds = typing.get_args(kind)
        if not isinstance(value, (list, tuple)) or (kinds[-1] is not ... and len(value) != len(kinds)):
            raise ValueError(f"{name} must be a list such as {_EXAMPLES[kinds[0]]}, but got {value!r}.")
        return tuple(_value(kinds[0], item, name) for item in value)
    if typing.get_origin(kind) is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{name} must be a JSON object, but got {value!r}.")
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{name} must be of type {kind.__name__}, but got {value!r}.")
    if kind is float and not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, but got {value!r}.")
    return value


def _member(kind: types.UnionType, value):
    """Chooses the member of a union to read a value as: the tuple for a list, another member for anything else."""
    members = [member for member in kind.__args__ if member is not type(None)]
    wanted = isinstance(value, (list, tuple))
    return next((one for one in members if wanted == (typing.get_origin(one) is tuple)), members[0])
