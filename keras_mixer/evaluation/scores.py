"""What scores mean: probabilities or logits, whichever a model gives."""

import numpy as np

TOLERANCE = 1e-3  # on the sum of an image's probabilities


def are_probabilities(scores: np.ndarray) -> bool:
    """Whether rows are distributions over classes, as of a model that ends in softmax; rows with NaN do not count."""
    scores = scores[np.isfinite(scores).all(axis=1)]
    if not len(scores):
        return False
    return not (scores.min() < 0.0 or np.abs(scores.sum(axis=1, dtype=np.float64) - 1.0).max() > TOLERANCE)


def confidences(scores: np.ndarray, softmaxed: bool) -> np.ndarray:
    """Returns the probability of the best class.

    Args:
        scores: Finite scores `(n, classes)`.
        softmaxed: Whether they are probabilities, which quantization may have taken off a sum of 1; logits otherwise.

    Returns:
        Probabilities `(n,)`, float64.
    """
    scores = scores.astype(np.float64)
    if not softmaxed:
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores.max(axis=1) / np.maximum(scores.sum(axis=1), np.finfo(np.float64).tiny)


def comparable_logits(scores: np.ndarray, softmaxed: bool) -> np.ndarray:
    """Returns logits, with their mean over classes taken off where softmax hides a constant of each image."""
    if not softmaxed:
        return scores
    # Probabilities below the smallest float32 round to zero; the clip keeps their logarithm finite.
    logs = np.log(np.maximum(scores.astype(np.float64), np.finfo(np.float32).tiny))
    return logs - logs.mean(axis=1, keepdims=True)
