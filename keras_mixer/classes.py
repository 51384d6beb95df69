"""Names of a classifier's classes, and the classes with the highest scores."""

import os
import reprlib
from collections.abc import Iterable, Mapping

import numpy as np

from keras_mixer.shapes import positive_integer


def checked_names(class_names: Iterable, count: int | None = None, argument: str = "class_names") -> tuple[str, ...]:
    """Returns the names of classes as strings.

    Args:
        class_names: The names in the order of the scores: strings, or bytes in UTF-8, in a list, a tuple or a NumPy
            array of one axis.
        count: Number of classes; None for any.
        argument: Name of the argument in messages.

    Raises:
        ValueError: If `class_names` is a string, a path, a dict, a set or a number, holds anything but strings, or has
            another length than `count`.
    """
    if isinstance(class_names, str | bytes | os.PathLike | Mapping | set | frozenset) or not np.iterable(class_names):
        hint = ""
        if isinstance(class_names, Mapping):
            hint = " For `names` from numbers to names, pass `[names[number] for number in sorted(names)]`; for "
            hint += "`numbers` from names to numbers, `sorted(numbers, key=numbers.get)`."
        elif isinstance(class_names, str | os.PathLike):
            hint = " If it is a file with one name per line, pass `pathlib.Path(file).read_text().splitlines()`."
        raise ValueError(
            f"`{argument}` must be a sequence of names, in the order of the scores, but got "
            f"{reprlib.repr(class_names)}.{hint}"
        )
    names = tuple(class_names)
    wrong = [name for name in names if not isinstance(name, str | bytes)]
    if wrong:
        raise ValueError(f"`{argument}` must hold strings only, but it holds {reprlib.repr(wrong[0])}.")
    if count is not None and len(names) != count:
        raise ValueError(f"`{argument}` must name each of the {count} classes, but it holds {len(names)} names.")
    try:
        return tuple(str(name, "utf-8") if isinstance(name, bytes) else str(name) for name in names)
    except UnicodeDecodeError as error:
        raise ValueError(f"`{argument}` must hold strings in UTF-8, but it holds {error.object!r}.") from error


def best_classes(scores, top: int) -> np.ndarray:
    """Returns the indices of the classes with the highest scores, best first.

    Equal scores are in the order of their indices, and scores that are not a number come last.

    Args:
        scores: Numbers of any type, `(..., classes)`.
        top: Number of classes to return; all if there are fewer.

    Returns:
        Indices `(..., min(top, classes))`.

    Raises:
        ValueError: If `top` is not a positive integer.
    """
    # Unsigned numbers, booleans and the lowest integer of a type have no negative.
    descending = -np.asarray(scores).astype("float64")
    return np.argsort(descending, axis=-1, kind="stable")[..., : positive_integer("top", top)]
