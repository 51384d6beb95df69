"""Draws the pictures with Matplotlib. The same data always gives the same bytes."""

import math
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from keras_mixer.preprocessing import Preprocessing
from keras_mixer.shapes import positive_integer
from keras_mixer.visualization.parts import displayable
from keras_mixer.visualization.units import FeaturePCA, UnitPairs

FORMATS = (".png", ".svg")


def draw_token_units(units: Mapping[str, tuple[np.ndarray, UnitPairs]], pairs_shown: int = 48, columns: int = 6):
    """Draws the units of token-mixing MLPs in pairs, low frequencies first (figure 5 of the paper).

    Args:
        units: For each title, maps `(units, rows, columns)` and their pairs.
        pairs_shown: Largest number of pairs per title, spread evenly over all frequencies.
        columns: Pairs in a row.

    Returns:
        A `matplotlib.figure.Figure`. Red is positive and blue is negative. Each unit has its own scale.
    """
    panels = {}
    for title, (maps, pairs) in units.items():
        shown = _evenly(len(pairs.units), positive_integer("pairs_shown", pairs_shown))
        tiles = maps[pairs.units[shown].ravel()].astype("float64")
        largest = np.abs(tiles).max(axis=(1, 2), keepdims=True)
        across = min(positive_integer("columns", columns), len(shown))
        panels[title] = mosaic(tiles / np.where(largest > 0, largest, 1.0), columns=2 * across, paired=True)
    return _panels(panels, cmap="RdBu_r", vmin=-1, vmax=1)


def draw_stem_units(colours: np.ndarray, title: str = "stem", units_shown: int = 256):
    """Draws the units of a stem (figure 7 of the paper).

    Args:
        colours: `(units, patch height, patch width, 3)` in [0, 1], see `stem_units`.
        title: Title of the picture.
        units_shown: Largest number of units, spread evenly over all.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    shown = _evenly(len(colours), positive_integer("units_shown", units_shown))
    picture = mosaic(colours[shown], columns=math.ceil(math.sqrt(len(shown))))
    return _panels({title: np.nan_to_num(picture, nan=1.0)})


def draw_influence(
    image: np.ndarray,
    maps: np.ndarray,
    tokens: Sequence[int],
    title: str = "",
    *,
    preprocessing: Preprocessing | None = None,
):
    """Draws the image with the patch of each token marked, above the map of the patches that influence the token.

    Args:
        image: One preprocessed image, `(height, width, channels)`.
        maps: Influences `(tokens, rows, columns)`, see `influence_maps`.
        tokens: The token of each map.
        title: Title of the picture.
        preprocessing: Preprocessing of the image; None for [-1, 1].

    Returns:
        A `matplotlib.figure.Figure`.
    """
    from matplotlib.patches import Rectangle

    _check_pairs(tokens, maps, "tokens and maps")
    figure, axes = _grid_of_axes(2, len(tokens), image.shape[1] / image.shape[0], title)
    rows, columns = maps.shape[1:]
    photo = _photo(image, preprocessing)
    for column, (token, influence) in enumerate(zip(tokens, maps, strict=True)):
        row, place = divmod(token, columns)
        axes[0][column].imshow(**photo, extent=(0, columns, rows, 0))
        axes[1][column].imshow(influence, extent=(0, columns, rows, 0), cmap="viridis", vmin=0.0)
        for axis in (axes[0][column], axes[1][column]):
            axis.add_patch(Rectangle((place, row), 1, 1, fill=False, edgecolor="red", linewidth=1.5))
        axes[0][column].set_title(f"token {token}", fontsize=9)
    return figure


def draw_feature_pca(  # noqa: D417
    images: np.ndarray, pca: FeaturePCA, title: str = "", *, preprocessing: Preprocessing | None = None
):
    """Draws images above the first three components of their tokens, shown as red, green and blue.

    Args:
        images: Preprocessed images, `(n, height, width, channels)`.
        pca: The components of their tokens, see `feature_pca`.
        title, preprocessing: As in `draw_influence`.

    Returns:
        A `matplotlib.figure.Figure`. Each colour goes from the 1st to the 99th percentile of its component.
    """
    _check_pairs(images, pca.maps, "images and maps")
    maps = pca.maps[..., :3]
    low, high = np.percentile(maps, [1, 99], axis=(0, 1, 2))
    colours = np.clip((maps - low) / np.where(high > low, high - low, 1.0), 0, 1)
    colours = np.pad(colours, [(0, 0)] * 3 + [(0, 3 - colours.shape[-1])])
    shares = ", ".join(f"{100 * share:.0f} %" for share in pca.explained[:3])
    between = "\n" if len(images) < 3 else " "  # a title must not be wider than its pictures
    title = f"{title}{between}({shares}{between}of variance)"
    figure, axes = _grid_of_axes(2, len(images), images.shape[2] / images.shape[1], title)
    for column, (image, tokens) in enumerate(zip(images, colours, strict=True)):
        axes[0][column].imshow(**_photo(image, preprocessing))
        axes[1][column].imshow(tokens)
    return figure


def draw_occlusion(  # noqa: D417
    image: np.ndarray, saliency: np.ndarray, title: str = "", *, preprocessing: Preprocessing | None = None
):
    """Draws the image beside a map of how far the score falls (red) or rises (blue) when a pixel is covered.

    Args:
        saliency: `(height, width)`, see `occlusion_saliency`.
        image, title, preprocessing: As in `draw_influence`.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    return draw_attribution(image, saliency, title, label="fall of the score", preprocessing=preprocessing)


def draw_attribution(  # noqa: D417
    image: np.ndarray,
    attribution: np.ndarray,
    title: str = "",
    *,
    label: str = "attribution",
    preprocessing: Preprocessing | None = None,
):
    """Draws the image beside a map of the evidence for a class (red) and against it (blue).

    Args:
        attribution: `(rows, columns)` as from `grad_cam`, stretched over the image; or `(height, width, channels)` as
            from `integrated_gradients`, summed over the channels.
        label: What the colours mean.
        image, title, preprocessing: As in `draw_influence`.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    values = attribution.sum(axis=-1) if np.ndim(attribution) == 3 else np.asarray(attribution)
    if values.ndim != 2:
        raise ValueError(
            f"Expected an attribution (rows, columns) or (height, width, channels), but got the shape {values.shape}."
        )
    figure, axes = _grid_of_axes(1, 2, image.shape[1] / image.shape[0], title)
    axes[0][0].imshow(**_photo(image, preprocessing))
    limit = max(float(np.abs(values).max()), 1e-12)
    place = (0, image.shape[1], image.shape[0], 0)
    shown = axes[0][1].imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, extent=place)
    figure.colorbar(shown, ax=axes[0][1], label=label, shrink=0.7)
    return figure


def save_figure(figure, path: str | pathlib.Path) -> pathlib.Path:
    """Writes a figure as PNG or SVG, according to the suffix of `path`. Missing folders are created.

    Raises:
        ValueError: If the path has another suffix.
    """
    import matplotlib

    path = pathlib.Path(path)
    if path.suffix not in FORMATS:
        raise ValueError(f"A picture is written as {' or '.join(FORMATS)}, but got {path}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without dates and random identifiers, the same picture is always the same file.
    with matplotlib.rc_context({"svg.hashsalt": "keras_mixer"}):
        metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        figure.savefig(path, dpi=150, metadata=metadata)
    return path


def mosaic(tiles: np.ndarray, columns: int, paired: bool = False) -> np.ndarray:
    """Arranges tiles `(n, height, width, ...)` in rows. The pixels in the gaps between them are NaN.

    If `paired`, tiles 0 and 1, 2 and 3, ... form pairs, and the gaps around each pair are three times as wide.
    """
    count, height, width = tiles.shape[:3]
    wide = 3 if paired else 1
    lefts = [column * (width + 1) + (column // 2) * (wide - 1) for column in range(columns)]
    tops = [row * (height + wide) for row in range(math.ceil(count / columns))]
    picture = np.full((tops[-1] + height, lefts[-1] + width, *tiles.shape[3:]), np.nan)
    for index, tile in enumerate(tiles):
        top, left = tops[index // columns], lefts[index % columns]
        picture[top : top + height, left : left + width] = tile
    return picture


def _check_pairs(images, others, what: str) -> None:
    """Raises ValueError unless there is something to draw, and `images` and `others` have the same length."""
    if not len(images) or len(images) != len(others):
        raise ValueError(f"Expected one or more {what}, as many of both, but got {len(images)} and {len(others)}.")


def _evenly(count: int, most: int) -> np.ndarray:
    """Returns at most `most` evenly spaced indices below `count`."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(int)


def _panels(pictures: Mapping[str, np.ndarray], **imshow):
    """Draws pictures with titles side by side, or below each other if they are wide."""
    height, width = np.max([picture.shape[:2] for picture in pictures.values()], axis=0)
    aspect = width / height
    shape = (1, len(pictures)) if aspect < 2 else (len(pictures), 1)
    figure, axes = _grid_of_axes(*shape, aspect, "", size=5.0 / max(1.0, aspect / 1.4))
    for axis, (title, picture) in zip(axes.ravel(), pictures.items(), strict=True):
        axis.imshow(picture, interpolation="nearest", **imshow)
        axis.set_title(title, fontsize=9)
    return figure


def _grid_of_axes(rows: int, columns: int, aspect: float, title: str, size: float = 2.0):
    # pyplot is avoided, because it keeps global state and may open a window.
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.05)
    figure = Figure(figsize=(columns * size * max(aspect, 0.4) + 0.4, rows * size + 0.6), layout=layout)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.ravel():
        axis.set_axis_off()
    if title:
        figure.suptitle(title, fontsize=10)
    return figure, axes


def _photo(image: np.ndarray, preprocessing: Preprocessing | None) -> dict:
    """Returns the arguments of `imshow`; only images of three channels are shown in colour."""
    pixels = displayable(image, preprocessing)
    if pixels.shape[-1] == 3:
        return {"X": pixels}
    return {"X": pixels.mean(axis=-1), "cmap": "gray", "vmin": 0.0, "vmax": 1.0}
