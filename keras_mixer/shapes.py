"""Checks of sizes, shapes and rates, and names for the axes of weights over tokens.

`keras_mixer.weights` changes the resolution of a model and permutes its patches. It reads three attributes of a layer:

- `token_axes` maps the relative name of each weight over tokens to what each axis stands for, such as `TOKENS_IN`.
- `hidden_arguments` names the constructor arguments that set the number of `HIDDEN` units. Their number grows with the
  image if each part of the image gets its own hidden units.
- `line_axes` maps the relative name of each weight over a row or column of a feature map to the number of channels per
  position. Each axis of the weight holds the channels of one position after those of another.
"""

import math
import numbers
import operator

import numpy as np

TOKENS_IN = "tokens_in"  # one entry per input token
TOKENS_OUT = "tokens_out"  # one entry per output token
HIDDEN = "hidden"  # one entry per hidden unit of an MLP over tokens
OTHER = "other"  # anything else, such as one entry per channel

TokenAxes = dict[str, tuple[str, ...]]
LineAxes = dict[str, int]


def integer(value) -> int | None:
    """Returns an integer of Python, NumPy or a framework as an int; None for anything else, such as True."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except (TypeError, AttributeError):  # TensorFlow raises the latter for a tensor that is not of integers
        return None


def is_finite(value) -> bool:
    """Returns whether `value` is a finite real number of Python or NumPy; True and False are not."""
    try:
        return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer beyond the largest float
        return False


def positive_integer(name: str, value: int) -> int:
    """Returns `value` as an int; raises ValueError unless it is an integer of at least 1."""
    whole = integer(value)
    if whole is None or whole < 1:
        raise ValueError(f"`{name}` must be a positive integer, but got {value!r}.")
    return whole


def bounded_integer(name: str, value: int, least: int = 0, greatest: int | None = None) -> int:
    """Returns `value` as an int; raises ValueError unless it is an integer from `least` to `greatest`."""
    whole = integer(value)
    if whole is None or whole < least or (greatest is not None and whole > greatest):
        bounds = f"of at least {least}" if greatest is None else f"from {least} to {greatest}"
        raise ValueError(f"`{name}` must be an integer {bounds}, but got {value!r}.")
    return whole


def boolean(name: str, value: bool) -> bool:
    """Returns `value` as a bool; raises ValueError unless it is True, False, 1 or 0 of Python or NumPy."""
    if not isinstance(value, bool | np.bool_) and integer(value) not in (0, 1):
        raise ValueError(f"`{name}` must be True or False, but got {value!r}.")
    return bool(value)


def pair_of_positive_integers(name: str, value: int | tuple[int, int]) -> tuple[int, int]:
    """Returns `value` as a pair (height, width); one integer stands for both."""
    pair = tuple(value) if np.iterable(value) and not isinstance(value, str) else (value, value)
    if len(pair) != 2:
        raise ValueError(f"`{name}` must be an integer or a pair (height, width), but got {value!r}.")
    return positive_integer(name, pair[0]), positive_integer(name, pair[1])


def rate_below_one(name: str, value: float) -> float:
    """Returns `value` as a float; raises ValueError unless it is a rate in [0, 1)."""
    if not isinstance(value, numbers.Real) or not 0.0 <= value < 1.0:
        raise ValueError(f"`{name}` is a probability in [0, 1), but got {value!r}. Use 0.0 to turn it off.")
    return float(value)


def static_table(layer: str, input_shape) -> tuple:
    """Returns the shape of a table of tokens by channels; raises ValueError unless both are static."""
    if len(input_shape) != 3 or None in input_shape[1:]:
        raise ValueError(
            f"{layer} expects an input of shape (batch, tokens, channels) with static tokens and channels, "
            f"but got {tuple(input_shape)}. Give the model a static image size."
        )
    return tuple(input_shape)


def feature_map(layer: str, input_shape) -> tuple:
    """Returns the shape of a feature map; raises ValueError unless it has four axes."""
    if len(input_shape) != 4:
        raise ValueError(
            f"{layer} expects a feature map of shape (batch, height, width, channels), but got {tuple(input_shape)}."
        )
    return tuple(input_shape)
