"""Draws the results of the experiments with Matplotlib."""

import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from keras_mixer.artefacts import Predictor
from keras_mixer.classes import best_classes, checked_names
from keras_mixer.evaluation.invariance import ORDERS, Curve
from keras_mixer.evaluation.throughput import growth_exponent
from keras_mixer.extras import require
from keras_mixer.fonts import drawable

SHEET_COLUMNS, SHEET_ROWS = 8, 6
NAMED_CLASSES = 40  # more names beside a picture would be illegible


def draw_confusion(counts: np.ndarray, class_names: Sequence[str], title: str = ""):
    """Draws the result of `confusion_matrix`, each row as percentages. The row of a class without images is white."""
    seen = counts.sum(axis=1, keepdims=True)
    shares = np.where(seen > 0, counts / np.maximum(seen, 1), np.nan)
    size = max(4.5, min(12.0, 0.3 * len(counts)))
    figure, (axes,) = _axes(1, size, height=size)
    shown = axes.imshow(100 * shares, cmap="viridis", vmin=0, vmax=100, interpolation="nearest")
    figure.colorbar(shown, ax=axes, label="images of the class (%)", shrink=0.8)
    _set_title(axes, title)
    axes.set(xlabel="predicted class", ylabel="true class")
    names = checked_names(class_names, len(counts))
    if len(names) <= NAMED_CLASSES:
        places = range(len(names))
        texts, families = drawable(names)
        rotation = 90 if max(map(len, texts)) > 2 else 0
        axes.set_xticks(places, texts, rotation=rotation, family=families)
        axes.set_yticks(places, texts, family=families)
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "black" if shares[row, column] > 0.6 else "white"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=7)
    return figure


def draw_invariance(curves: Sequence[Curve]):
    """Draws accuracy over epochs for each order of pixels, one panel per architecture (figure 4 of the paper)."""
    from matplotlib.ticker import MaxNLocator

    models = list(dict.fromkeys(curve.model for curve in curves))
    figure, panels = _axes(len(models), 3.4, sharey=True)
    for axes, model in zip(panels, models, strict=True):
        for curve in curves:
            if curve.model == model:
                style = dict(zip(ORDERS, ("-", "--", ":"), strict=True))[curve.order]
                epochs = range(1, len(curve.accuracy) + 1)
                axes.plot(epochs, [100 * value for value in curve.accuracy], style, marker=".", label=curve.order)
        _set_title(axes, model)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("test accuracy (%)")
    panels[0].legend(title="pixels", fontsize=8)
    return figure


def draw_growth(sizes: Sequence[int], costs: Mapping[str, Sequence[float]], unit: str = "patches"):
    """Draws costs against image sizes on logarithmic scales, with the growth exponent of each cost."""
    from matplotlib.ticker import NullLocator

    figure, panels = _axes(len(costs), 3.6)
    for axes, (name, values) in zip(panels, costs.items(), strict=True):
        exponent = growth_exponent(sizes, values)
        axes.plot(sizes, values, "o", label="measured")
        constant = np.exp(np.mean(np.log(values)) - exponent * np.mean(np.log(sizes)))
        axes.plot(sizes, [constant * count**exponent for count in sizes], "-", label=f"exponent {exponent:.2f}")
        axes.set(xscale="log", yscale="log", xlabel=unit, ylabel=name)
        axes.set_xticks(sizes, [f"{count:,}" for count in sizes])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3, which="both")
    return figure


def save_prediction_sheet(
    predictor: Predictor,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    class_names: Sequence[str],
    path: str | os.PathLike,
) -> pathlib.Path:
    """Draws 48 images with their predicted classes. Wrong ones come first, titled in red with the true class.

    Wrong predictions fill at most half of the sheet, so that it also shows correct ones.

    Args:
        predictor: The classifier.
        batches: Pairs of preprocessed images `(n, height, width, channels)` and integer labels `(n,)`.
        class_names: Names of the classes, in the order of the scores.
        path: File to write. Its suffix (.png, .pdf, .svg) selects the format.

    Returns:
        The path.

    Raises:
        ValueError: If Matplotlib does not know the suffix, there are no images, or `class_names` does not hold one
            string for each score.
        ImportError: If Matplotlib is not installed.

    Example:
        >>> predictor, card = keras_mixer.evaluation.open_classifier("runs/digits")
        >>> split = keras_mixer.evaluation.EvaluationSplit(card)
        >>> keras_mixer.evaluation.save_prediction_sheet(predictor, split, card.class_names, "sheet.png")
    """
    require("matplotlib", extra="pipelines", purpose="Drawing")
    from matplotlib.figure import Figure

    path, class_names = pathlib.Path(path), checked_names(class_names)
    chosen = _choose(predictor, batches, len(class_names))
    if not chosen:
        raise ValueError("There is nothing to draw: the split holds no images.")
    names, families = drawable(class_names)
    figure = Figure(figsize=(1.5 * SHEET_COLUMNS, 1.8 * SHEET_ROWS), layout="constrained")
    for index, (image, label, best, score) in enumerate(chosen, start=1):
        axes = figure.add_subplot(SHEET_ROWS, SHEET_COLUMNS, index)
        low, high = image.min(), image.max()  # the model's inputs may have any range
        axes.imshow(((image - low) / max(high - low, 1e-6)).squeeze(), cmap="gray")
        axes.set_axis_off()
        wrong = best != label
        title = f"{names[best]} ({score:.2f})" + (f"\nis {names[label]}" if wrong else "")
        axes.set_title(title, fontsize=9, family=families, color="red" if wrong else "black")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path


def _choose(predictor: Predictor, batches, classes: int) -> list[tuple[np.ndarray, int, int, float]]:
    """Chooses wrong predictions for up to half of the sheet, then correct ones. Reads no more batches than needed."""
    places = SHEET_COLUMNS * SHEET_ROWS
    wrong: list[tuple[np.ndarray, int, int, float]] = []
    right: list[tuple[np.ndarray, int, int, float]] = []
    for images, labels in batches:
        scores = predictor.scores(np.asarray(images, np.float32))
        if scores.shape[-1] != classes:
            raise ValueError(f"The model scores {scores.shape[-1]} classes, but `class_names` holds {classes} names.")
        for image, label, row in zip(np.asarray(images), np.asarray(labels), scores, strict=True):
            best = int(best_classes(row, 1)[0])
            pile = right if best == label else wrong
            if len(pile) < places:
                pile.append((image, int(label), best, float(row[best])))
        if min(len(wrong), len(right)) >= places // 2:
            break
    return (wrong[: places // 2] + right)[:places]


def _set_title(axes, title: str) -> None:
    (text,), families = drawable([title])
    axes.set_title(text, family=families)


def _axes(columns: int, width: float, height: float = 3.4, **options):
    require("matplotlib", extra="pipelines", purpose="Drawing")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(columns * width + 0.4, height), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False, **options)[0]
