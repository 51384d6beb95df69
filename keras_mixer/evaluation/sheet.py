"""A picture of predictions: images with their labels, the wrong ones marked."""

import os
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from keras_mixer.evaluation.predictors import Predictor

COLUMNS, ROWS = 8, 6


def save_prediction_sheet(
    predictor: Predictor,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    class_names: Sequence[str],
    path: str | os.PathLike,
) -> pathlib.Path:
    """Draws 48 images with what the classifier takes them for; wrong ones first, titled in red with the true class.

    At most half of the sheet is given to wrong predictions, so that it also shows what is recognised.

    Args:
        predictor: The classifier.
        batches: Pairs of preprocessed images `(n, height, width, channels)` and integer labels `(n,)`.
        class_names: Names of the classes, in the order of the scores.
        path: The picture; its suffix chooses the format (.png, .pdf, .svg).

    Returns:
        The path.

    Raises:
        ValueError: If the suffix names no format of Matplotlib, or there are no images.
    """
    from matplotlib.figure import Figure

    path = pathlib.Path(path)
    chosen = _choose(predictor, batches)
    if not chosen:
        raise ValueError("There is nothing to draw: the split holds no images.")
    figure = Figure(figsize=(1.5 * COLUMNS, 1.8 * ROWS), layout="constrained")
    for place, (image, label, best, score) in enumerate(chosen, start=1):
        axes = figure.add_subplot(ROWS, COLUMNS, place)
        # Back from the model's range, whichever it is, to the one of a picture.
        low, high = image.min(), image.max()
        axes.imshow(((image - low) / max(high - low, 1e-6)).squeeze(), cmap="gray")
        axes.set_axis_off()
        wrong = best != label
        title = f"{class_names[best]} ({score:.2f})" + (f"\nis {class_names[label]}" if wrong else "")
        axes.set_title(title, fontsize=9, color="red" if wrong else "black")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path


def _choose(predictor: Predictor, batches) -> list[tuple[np.ndarray, int, int, float]]:
    """Wrong predictions for at most half of the sheet, then right ones to fill it; reads no further than that takes."""
    half = COLUMNS * ROWS // 2
    wrong: list[tuple[np.ndarray, int, int, float]] = []
    right: list[tuple[np.ndarray, int, int, float]] = []
    for images, labels in batches:
        scores = predictor.scores(np.asarray(images, np.float32))
        for image, label, row in zip(np.asarray(images), np.asarray(labels), scores, strict=True):
            best = int(row.argmax())
            pile = right if best == label else wrong
            if len(pile) < COLUMNS * ROWS:
                pile.append((image, int(label), best, float(row[best])))
        if min(len(wrong), len(right)) >= half:
            break
    return (wrong[:half] + right)[: COLUMNS * ROWS]
