"""Split expressions such as "train[:90%]+validation", read as TensorFlow Datasets reads them."""

import re
from collections.abc import Mapping

_BOUNDARY = r"\s*(-?\d+(?:\.\d+)?)?\s*(%)?\s*"
_PART = re.compile(rf"([^\[\]+]+?)(?:\[{_BOUNDARY}:{_BOUNDARY}\])?")


def parts(expression: str, sizes: Mapping[str, int]) -> list[tuple[str, slice]]:
    """Resolves a split expression to names of splits, each with a slice of its examples.

    Args:
        expression: Names with or without slices, joined by "+". Boundaries are numbers of examples, or percentages that
            are rounded to the nearest example. "all" stands for every split.
        sizes: Number of examples of each split.

    Raises:
        KeyError: If there is no such split.
        ValueError: If the expression is not one, or a boundary lies outside of the split.

    Example:
        >>> parts("train[:90%]+test", {"train": 1437, "test": 360})
        [('train', slice(0, 1293, None)), ('test', slice(0, 360, None))]
    """
    found: list[tuple[str, slice]] = []
    for part in expression.split("+"):
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"{part!r} is not a split: write NAME or NAME[FIRST:STOP].")
        name, first, first_unit, stop, stop_unit = match.groups()
        if name == "all" and first is stop is None:
            found += [(name, slice(0, size)) for name, size in sizes.items()]
            continue
        size, percent = sizes[name], bool(first_unit or stop_unit)
        found.append((name, slice(_example(first, 0, size, percent), _example(stop, size, size, percent))))
    return found


def _example(boundary: str | None, otherwise: int, size: int, percent: bool) -> int:
    if boundary is None:
        return otherwise
    example = round(float(boundary) * size / 100.0) if percent else int(boundary)
    if abs(example) > size or (percent and abs(float(boundary)) > 100.0):
        raise ValueError(f"The boundary {boundary} lies outside of a split of {size} examples.")
    return example + size if example < 0 else example
