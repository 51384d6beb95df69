"""Lays small pictures out as one."""

import numpy as np


def mosaic(tiles: np.ndarray, columns: int, gap: int = 1, paired: bool = False) -> np.ndarray:
    """Joins tiles of one size, row by row, with gaps between them.

    Args:
        tiles: `(n, height, width)` or `(n, height, width, 3)`.
        columns: Tiles in a row; an even number if `paired`.
        gap: Pixels between tiles.
        paired: Whether tiles 0 and 1, 2 and 3, ... belong together: the gap after each pair is three times as wide.

    Returns:
        One picture, NaN where there is no tile.
    """
    count, height, width = tiles.shape[:3]
    rows = -(-count // columns)
    lefts, left = [], 0
    for column in range(columns):
        lefts.append(left)
        left += width + (3 * gap if paired and column % 2 else gap)
    total_width = lefts[-1] + width
    vertical_gap = 3 * gap if paired else gap
    picture = np.full((rows * (height + vertical_gap) - vertical_gap, total_width, *tiles.shape[3:]), np.nan)
    for index, tile in enumerate(tiles):
        top, left = (index // columns) * (height + vertical_gap), lefts[index % columns]
        picture[top : top + height, left : left + width] = tile
    return picture
