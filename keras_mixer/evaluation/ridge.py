"""Closed-form ridge regression from features to classes, for many penalties at the cost of one."""

import dataclasses

import numpy as np

# Columns of ones, as large, leave the bias almost without penalty; the published protocol has the same value.
BIAS_FEATURE = 100.0
SMALLEST_DEVIATION = 1e-5  # added to standard deviations, for features that never change


@dataclasses.dataclass(frozen=True)
class RidgeClassifier:
    """A linear classifier of standardised features.

    Attributes:
        mean: Of each feature over the training examples, `(features,)`.
        deviation: Standard deviation of each, `(features,)`.
        kernel: `(features + 1, classes)`, float64; the last row is the bias divided by `BIAS_FEATURE`.
    """

    mean: np.ndarray
    deviation: np.ndarray
    kernel: np.ndarray

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Returns regressed targets, about 1 for the class and -1 for others, `(n, classes)`."""
        standardised = (features - self.mean) / self.deviation
        return standardised @ self.kernel[:-1] + BIAS_FEATURE * self.kernel[-1]


class RidgePath:
    """Ridge regression onto targets of 1 for an example's class and -1 for every other, for any penalty.

    Minimises `||X W - Y||^2 + penalty ||W||^2` over W, in float64, where X holds standardised features and the bias
    feature. One eigendecomposition serves all penalties. Of the two forms of the solution the one with the smaller
    matrix is taken: `(X'X + penalty I)^-1 X'Y` has one row per feature, `X'(XX' + penalty I)^-1 Y` one per example.

    Args:
        features: `(n, features)`.
        labels: Integer classes `(n,)`.
        classes: Number of classes.

    Raises:
        ValueError: If shapes do not fit or a label is out of range.

    Example:
        >>> path = RidgePath(features, labels, classes=10)
        >>> path.solve(2.0**10).scores(test_features).argmax(axis=1)
    """

    def __init__(self, features: np.ndarray, labels: np.ndarray, classes: int):
        features, labels = np.asarray(features), np.asarray(labels)
        if features.ndim != 2 or labels.shape != features.shape[:1] or not len(labels):
            raise ValueError(f"Expected features (n, d) and labels (n,), but got {features.shape} and {labels.shape}.")
        if labels.min() < 0 or labels.max() >= classes:
            raise ValueError(f"Labels go from {labels.min()} to {labels.max()}, but there are {classes} classes.")
        count, width = features.shape
        inputs = np.empty((count, width + 1))
        inputs[:, :-1] = features
        self._mean = inputs[:, :-1].mean(axis=0)
        inputs[:, :-1] -= self._mean
        self._deviation = np.sqrt(np.mean(inputs[:, :-1] ** 2, axis=0)) + SMALLEST_DEVIATION
        inputs[:, :-1] /= self._deviation
        inputs[:, -1] = BIAS_FEATURE
        if count > width:
            self._eigenvalues, basis = np.linalg.eigh(inputs.T @ inputs)
            self._left, self._right = basis, basis.T @ _correlation(inputs, labels, classes)
        else:
            self._eigenvalues, basis = np.linalg.eigh(inputs @ inputs.T)
            targets = np.full((count, classes), -1.0)
            targets[np.arange(count), labels] = 1.0
            self._left, self._right = inputs.T @ basis, basis.T @ targets

    def solve(self, penalty: float) -> RidgeClassifier:
        """Returns the classifier for one penalty.

        Raises:
            ValueError: If the penalty is not positive.
        """
        if not penalty > 0:
            raise ValueError(f"A penalty must be positive, but got {penalty!r}.")
        # Rounding can leave an eigenvalue of 0 slightly negative.
        shrunk = self._left / (np.maximum(self._eigenvalues, 0.0) + penalty)
        return RidgeClassifier(self._mean, self._deviation, shrunk @ self._right)


def _correlation(inputs: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Returns X'Y `(features, classes)` from sums over each class, without the matrix Y of n x classes."""
    sums = np.zeros((classes, inputs.shape[1]))
    order = np.argsort(labels, kind="stable")
    present, starts = np.unique(labels[order], return_index=True)
    sums[present] = np.add.reduceat(inputs[order], starts, axis=0)
    return (2.0 * sums - inputs.sum(axis=0)).T
