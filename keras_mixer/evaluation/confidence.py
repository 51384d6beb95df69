"""Calibration, confusion matrices, and the difference between probabilities and logits."""

import dataclasses

import numpy as np

from keras_mixer.shapes import positive_integer

TOLERANCE = 1e-3  # on the sum of an image's probabilities


def are_probabilities(scores: np.ndarray) -> bool:
    """Returns whether rows are distributions over classes, as softmax returns them. Rows with NaN are ignored."""
    scores = scores[np.isfinite(scores).all(axis=1)]
    if not len(scores):
        return False
    return not (scores.min() < 0.0 or np.abs(scores.sum(axis=1, dtype=np.float64) - 1.0).max() > TOLERANCE)


def confidences(scores: np.ndarray, softmaxed: bool) -> np.ndarray:
    """Returns the probability of the best class `(n,)` from finite logits, or from probabilities if `softmaxed`."""
    scores = scores.astype(np.float64)
    if not softmaxed:
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores.max(axis=1) / np.maximum(scores.sum(axis=1), np.finfo(np.float64).tiny)


def comparable_logits(scores: np.ndarray, softmaxed: bool) -> np.ndarray:
    """Returns logits. If `softmaxed`, they have mean 0 per image, because softmax hides a constant per image."""
    if not softmaxed:
        return scores
    # Probabilities below the smallest float32 round to zero. Clipping keeps their logarithm finite.
    logs = np.log(np.maximum(scores.astype(np.float64), np.finfo(np.float32).tiny))
    return logs - logs.mean(axis=1, keepdims=True)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Confidence against accuracy, in bins of equal width.

    Attributes:
        error: Expected calibration error: the mean over bins of `|confidence - accuracy|`, weighted by examples.
        edges: Edges of the bins, `(bins + 1,)` from 0 to 1.
        count: Examples in each bin.
        confidence: Mean probability of the predicted class in each bin; NaN for an empty bin.
        accuracy: Share of correct predictions in each bin; NaN for an empty bin.
    """

    error: float
    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def calibration(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> Calibration:
    """Measures the expected calibration error (Guo et al., 2017, arXiv 1706.04599).

    Args:
        probabilities: `(n, classes)`, rows that sum to 1.
        labels: Integer classes `(n,)`.
        bins: Number of bins.

    Returns:
        The error and the bins. A confidence on an edge belongs to the bin below it.

    Raises:
        ValueError: If there is no example, or a row is not a distribution.

    Example:
        >>> keras_mixer.evaluation.calibration(model.predict(images), labels).error
    """
    probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
    if probabilities.ndim != 2 or not len(probabilities) or len(labels) != len(probabilities):
        raise ValueError(f"Expected probabilities (n, classes) and n labels, but got {probabilities.shape}.")
    if not np.isfinite(probabilities).all() or not are_probabilities(probabilities):
        raise ValueError("Calibration needs probabilities that sum to 1: apply softmax to logits first.")
    return binned_calibration(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels, bins)


def binned_calibration(sure: np.ndarray, right: np.ndarray, bins: int = 15) -> Calibration:
    """Measures calibration from the probability of the predicted class `(n,)` and whether it is correct `(n,)`."""
    edges = np.linspace(0, 1, positive_integer("bins", bins) + 1)
    bin_index = np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, bins - 1)
    count = np.bincount(bin_index, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(bin_index, sure, bins) / count
        accuracy = np.bincount(bin_index, right, bins) / count
    error = float(np.nansum(count * np.abs(confidence - accuracy)) / len(sure))
    return Calibration(error, edges, count, confidence, accuracy)


def confusion_matrix(predictions: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Counts how often each class (row) is predicted as each class (column).

    Args:
        predictions: Predicted classes `(n,)`.
        labels: True classes `(n,)`.
        classes: Number of classes.

    Returns:
        Counts `(classes, classes)`.

    Raises:
        ValueError: If a class is out of range.
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    for name, values in (("predictions", predictions), ("labels", labels)):
        if len(values) and not 0 <= values.min() <= values.max() < classes:
            raise ValueError(f"`{name}` go from {values.min()} to {values.max()}, but there are {classes} classes.")
    return np.bincount(labels * classes + predictions, minlength=classes**2).reshape(classes, classes)
