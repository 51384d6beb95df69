"""Checks of layer arguments: each returns the value or says what was expected, what came and how to mend it."""

import numbers


def positive_integer(name: str, value: int) -> int:
    """Returns `value` if it is an integer of at least 1."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or int(value) < 1:
        raise ValueError(f"`{name}` must be a positive integer, but got {value!r}.")
    return int(value)


def pair_of_positive_integers(name: str, value: int | tuple[int, int]) -> tuple[int, int]:
    """Returns `value` as a pair (height, width); one integer stands for both."""
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"`{name}` must be an integer or a pair (height, width), but got {value!r}.")
        return positive_integer(name, value[0]), positive_integer(name, value[1])
    return positive_integer(name, value), positive_integer(name, value)


def rate_below_one(name: str, value: float) -> float:
    """Returns `value` if it is a rate in [0, 1)."""
    if not isinstance(value, numbers.Real) or not 0.0 <= value < 1.0:
        raise ValueError(f"`{name}` is a probability in [0, 1), but got {value!r}. Use 0.0 to turn it off.")
    return float(value)
