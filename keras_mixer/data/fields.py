"""Reading a dataclass from JSON: every key is checked, none is ignored."""

import dataclasses
import typing


def from_mapping(cls, values: typing.Any):
    """Builds the dataclass `cls` from a mapping as JSON gives it (lists become tuples).

    Raises:
        ValueError: If `values` is not a mapping, or has an unknown key, or lacks one without a default.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{cls.__name__} is written as a JSON object, but got {type(values).__name__}.")
    fields = {field.name: field for field in dataclasses.fields(cls)}
    required = {
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    unknown, missing = sorted(set(values) - set(fields)), sorted(required - set(values))
    if unknown or missing:
        raise ValueError(
            f"{cls.__name__} has the fields {', '.join(fields)}; unknown: {unknown or 'none'}, "
            f"missing: {missing or 'none'}."
        )
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
