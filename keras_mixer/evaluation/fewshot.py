"""The linear few-shot probe: how well a few images per class tell the classes apart by a model's features."""

import dataclasses
from collections.abc import Iterable, Sequence

import keras
import numpy as np

from keras_mixer.evaluation.compilation import worth_compiling
from keras_mixer.evaluation.ridge import RidgePath

SHOTS = (1, 5, 10, 25)  # images per class
PENALTY = 2.0**10
PENALTY_SWEEP = tuple(2.0**exponent for exponent in range(-10, 20))  # of the ViT paper's published settings
CHUNK = 4096  # test examples scored together

Choice = list[np.ndarray]  # indices of the chosen images of each class


@dataclasses.dataclass(frozen=True)
class FewShot:
    """Accuracy of the probe with one number of images per class and one penalty.

    Attributes:
        shots: Images per class.
        penalty: Of the ridge regression.
        accuracies: Top-1 on the test split, for each seed that chose the images.
    """

    shots: int
    penalty: float
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return float(np.mean(self.accuracies))

    @property
    def spread(self) -> float:
        """Standard deviation over seeds, of a sample; 0 for one seed."""
        return float(np.std(self.accuracies, ddof=1)) if len(self.accuracies) > 1 else 0.0


def feature_model(model: keras.Model) -> keras.Model:
    """Returns the part of a classifier that ends in its features: the layer `pre_logits`, or what the last one reads.

    Raises:
        ValueError: If the features are not one vector per image.
    """
    names = [layer.name for layer in model.layers]
    output = model.get_layer("pre_logits").output if "pre_logits" in names else model.layers[-1].input
    if isinstance(output, (list, tuple)) or len(output.shape) != 2:
        raise ValueError(f"The layer before the last of {model.name!r} does not give one vector of features per image.")
    features = keras.Model(model.inputs[0], output, name=f"{model.name}_features")
    features.jit_compile = worth_compiling()
    return features


def extract_features(
    model: keras.Model, batches: Iterable[tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Runs a feature model over a split.

    Args:
        model: Maps images to features, see `feature_model`.
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


def choose_shots(labels: np.ndarray, classes: int, shots: int, seeds: Sequence[int]) -> list[Choice]:
    """Draws the images that `few_shot_probe` fits to, so that features are needed of them alone.

    Args:
        labels: Integer labels `(n,)` of the images to choose from.
        classes: Number of classes.
        shots: Images per class; a class with fewer gives all it has.
        seeds: One choice of images each.

    Returns:
        For each seed and class, indices into `labels` in the order in which more shots add them.

    Raises:
        ValueError: If a class has no image.
    """
    missing = sorted(set(range(classes)) - set(np.unique(labels).tolist()))
    if missing:
        raise ValueError(f"There are no training images of the classes {missing[:5]} of {classes}.")
    by_class = np.argsort(labels, kind="stable")
    starts, ends = (np.searchsorted(labels[by_class], np.arange(classes), side) for side in ("left", "right"))
    of_class = [by_class[start:end] for start, end in zip(starts, ends, strict=True)]
    choices = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        choices.append([rng.permutation(indices)[:shots].copy() for indices in of_class])
    return choices


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
    """Fits ridge regressions to a few images per class, chosen at random, and measures them on a test split.

    The protocol of the Mixer and ViT papers: features are standardised by the chosen images, targets are 1 and -1,
    the bias is a large constant feature, the penalty is 2^10. With more shots, a seed adds images to those it chose
    before.

    Args:
        train: Features `(n, features)` and integer labels `(n,)` to choose from.
        test: Those to measure on.
        classes: Number of classes.
        shots: Images per class; a class with fewer gives all it has.
        penalties: Penalties of the ridge regression; `PENALTY_SWEEP` for the published sweep.
        seeds: One choice of images each.
        choices: The images that `choose_shots` has chosen, as indices into `train`, instead of `seeds`.

    Returns:
        Results for each number of shots and penalty, in that order.

    Raises:
        ValueError: If a class has no training image, or a number is not positive.

    Example:
        >>> results = few_shot_probe(train, test, classes=10, shots=[5])
        >>> f"{100 * results[0].mean:.1f} +- {100 * results[0].spread:.1f} %"
    """
    (features, labels), (test_features, test_labels) = train, test
    if min(shots, default=1) < 1:
        raise ValueError(f"`shots` are positive numbers of images per class, but got {tuple(shots)}.")
    if choices is None:
        choices = choose_shots(labels, classes, max(shots, default=0), seeds)
    accuracies: dict[tuple[int, float], list[float]] = {(n, penalty): [] for n in shots for penalty in penalties}
    for of_class in choices:
        for count in shots:
            chosen = np.concatenate([indices[:count] for indices in of_class])
            path = RidgePath(features[chosen], labels[chosen], classes)
            for penalty in penalties:
                classifier = path.solve(penalty)
                right = 0
                for start in range(0, len(test_labels), CHUNK):
                    part = slice(start, start + CHUNK)
                    right += int(np.sum(classifier.scores(test_features[part]).argmax(axis=1) == test_labels[part]))
                accuracies[count, penalty].append(right / len(test_labels))
    return [FewShot(count, penalty, tuple(values)) for (count, penalty), values in accuracies.items()]
