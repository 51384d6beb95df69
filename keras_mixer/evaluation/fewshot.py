"""The linear few-shot probe: how well a linear map of a model's features classifies after a few images per class."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_mixer.artefacts.predictor import head_input, worth_compiling
from keras_mixer.shapes import bounded_integer, positive_integer

if TYPE_CHECKING:
    import keras

SHOTS = (1, 5, 10, 25)  # images per class
PENALTY = 2.0**10
PENALTY_SWEEP = tuple(2.0**exponent for exponent in range(-10, 20))  # the ViT paper's published settings
CHUNK = 4096  # test examples scored together
BIAS_FEATURE = 100.0  # from the published protocol; such a large constant leaves the bias almost unpenalised
SMALLEST_DEVIATION = 1e-5  # added to standard deviations, because some features are constant

Choice = list[np.ndarray]  # indices of the chosen images of each class


@dataclasses.dataclass(frozen=True)
class FewShot:
    """Accuracy of the probe for one number of images per class and one penalty.

    Attributes:
        shots: Images per class.
        penalty: Penalty of the ridge regression.
        accuracies: Top-1 accuracy on the test split, one for each seed.
    """

    shots: int
    penalty: float
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return float(np.mean(self.accuracies))

    @property
    def spread(self) -> float:
        """The sample standard deviation over seeds; 0 for one seed."""
        return float(np.std(self.accuracies, ddof=1)) if len(self.accuracies) > 1 else 0.0


def feature_model(model: "keras.Model") -> "keras.Model":
    """Returns the part of a classifier that computes its features, the inputs of its head.

    Raises:
        ValueError: If the features are not one vector per image.
    """
    import keras

    output = head_input(model)
    if isinstance(output, (list, tuple)) or len(output.shape) != 2:
        raise ValueError(f"The layer before the head of {model.name!r} does not give one vector of features per image.")
    features = keras.Model(model.inputs[0], output, name=f"{model.name}_features")
    features.jit_compile = worth_compiling()
    return features


def extract_features(
    model: "keras.Model", batches: Iterable[tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Runs a feature model over a split.

    Args:
        model: Maps images to features, as `feature_model` returns it.
        batches: Pairs of preprocessed images and integer labels.

    Returns:
        Features `(n, features)` float32 and labels `(n,)`.

    Raises:
        ValueError: If there is no image.
    """
    features, labels = [], []
    for images, batch_labels in batches:
        features.append(np.asarray(model.predict_on_batch(np.asarray(images)), np.float32))
        labels.append(np.asarray(batch_labels))
    if not features:
        raise ValueError("There is nothing to probe: the split holds no images.")
    return np.concatenate(features), np.concatenate(labels)


def choose_shots(  # noqa: D417
    labels: np.ndarray, classes: int, shots: int, seeds: Sequence[int]
) -> list[Choice]:
    """Draws the images that `few_shot_probe` fits to. Features are then needed for these images alone.

    Args:
        labels: Integer labels `(n,)` of the images to choose from.
        classes, shots, seeds: As in `few_shot_probe`.

    Returns:
        For each seed and class, indices into `labels`. N shots use the first N of them.

    Raises:
        ValueError: If a class has no image.
    """
    classes, shots = positive_integer("classes", classes), bounded_integer("shots", shots)
    by_class = np.argsort(labels, kind="stable")
    edges = np.searchsorted(labels[by_class], np.arange(classes + 1))
    of_class = np.split(by_class, edges)[1:-1]  # labels outside 0 to classes - 1 are ignored
    if missing := [number for number, indices in enumerate(of_class) if not len(indices)]:
        raise ValueError(f"There are no training images of the classes {missing[:5]} of {classes}.")
    generators = [np.random.default_rng(seed) for seed in seeds]
    return [[rng.permutation(indices)[:shots].copy() for indices in of_class] for rng in generators]


def few_shot_probe(
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    classes: int,
    *,
    shots: Sequence[int] = SHOTS,
    penalties: Sequence[float] = (PENALTY,),
    seeds: Sequence[int] = (0, 1, 2),
    choices: Sequence[Choice] | None = None,
) -> list[FewShot]:
    """Fits ridge regressions to a few random images per class, and measures them on a test split.

    This is the protocol of the Mixer and ViT papers. Features are standardised by the statistics of the chosen images,
    targets are 1 and -1, the bias is a large constant feature, and the penalty is 2^10. With the same seed, the images
    for fewer shots are among the images for more shots.

    Args:
        train: Features `(n, features)` and integer labels `(n,)` to choose from.
        test: Features and labels to measure on.
        classes: Number of classes.
        shots: Images per class. A class with fewer images contributes all of them.
        penalties: Penalties of the ridge regression. `PENALTY_SWEEP` holds the published ones.
        seeds: Seeds of the random choice of images. Each seed makes one choice.
        choices: Indices into `train` from `choose_shots`, instead of `seeds`.

    Returns:
        Results for each number of shots and penalty, in that order.

    Raises:
        ValueError: If a class has no training image, or a number is not positive.

    Example:
        >>> results = few_shot_probe(train, test, classes=10, shots=[5])
        >>> f"{100 * results[0].mean:.1f} +- {100 * results[0].spread:.1f} %"
    """
    (features, labels), (test_features, test_labels) = train, test
    classes, shots = positive_integer("classes", classes), [positive_integer("shots", count) for count in shots]
    if choices is None:
        choices = choose_shots(labels, classes, max(shots, default=0), seeds)
    accuracies: dict[tuple[int, float], list[float]] = {(n, penalty): [] for n in shots for penalty in penalties}
    for of_class in choices:
        for count in shots:
            chosen = np.concatenate([indices[:count] for indices in of_class])
            path = RidgePath(features[chosen], labels[chosen], classes)
            for penalty in penalties:
                kernel = path.solve(penalty)
                parts = [test_features[start : start + CHUNK] for start in range(0, len(test_labels), CHUNK)]
                predictions = np.concatenate([path.scores(part, kernel).argmax(axis=1) for part in parts])
                accuracies[count, penalty].append(float(np.mean(predictions == test_labels)))
    return [FewShot(count, penalty, tuple(values)) for (count, penalty), values in accuracies.items()]


class RidgePath:
    """Ridge regression for many penalties onto targets of 1 for an example's class and -1 for all other classes.

    It minimises `||X W - Y||^2 + penalty ||W||^2` over W, in float64, where X holds standardised features and the bias
    feature. One eigendecomposition serves all penalties. Of two equal solutions, the one with the smaller matrix is
    computed: `(X'X + penalty I)^-1 X'Y` (features x features) or `X'(XX' + penalty I)^-1 Y` (examples x examples).
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
            sums = np.zeros((classes, width + 1))  # sums per class give X'Y without the large matrix Y
            np.add.at(sums, labels, inputs)
            self._left, self._right = basis, basis.T @ (2.0 * sums - inputs.sum(axis=0)).T
        else:
            self._eigenvalues, basis = np.linalg.eigh(inputs @ inputs.T)
            targets = np.full((count, classes), -1.0)
            targets[np.arange(count), labels] = 1.0
            self._left, self._right = inputs.T @ basis, basis.T @ targets

    def solve(self, penalty: float) -> np.ndarray:
        """Returns the kernel `(features + 1, classes)` for a positive penalty. Its last row is for the bias feature."""
        if not penalty > 0:
            raise ValueError(f"A penalty must be positive, but got {penalty!r}.")
        # Rounding can leave an eigenvalue of 0 slightly negative.
        shrunk = self._left / (np.maximum(self._eigenvalues, 0.0) + penalty)
        return shrunk @ self._right

    def scores(self, features: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        """Returns regressed targets, about 1 for the class and -1 for others, `(n, classes)`."""
        standardised = (features - self._mean) / self._deviation
        return standardised @ kernel[:-1] + BIAS_FEATURE * kernel[-1]
