"""Accuracy of classifiers, all measured on the same batches: against the labels and against each other."""

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from keras_mixer.evaluation.predictors import Predictor

TOP_K = 5


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """What one classifier reached on a labelled split.

    Attributes:
        examples: Number of images.
        top1: Share of images whose label has the highest score.
        top5: Share of images whose label is among the five highest scores.
        per_class: Share of each class's images that are recognised; None for a class without images.
        not_finite: Images with a NaN or an infinity among their scores. They count as wrong.
        agreement: Share of images with the same best class as the reference; None for the reference itself.
        largest_score_difference: Largest absolute difference to a score of the reference; None for the reference.
        largest_logit_difference: The same of logits. Softmax hides logits up to a constant for each image, so those
            of a model that ends in softmax are compared with their mean taken off; None for the reference.
    """

    examples: int
    top1: float
    top5: float
    per_class: tuple[float | None, ...]
    not_finite: int = 0
    agreement: float | None = None
    largest_score_difference: float | None = None
    largest_logit_difference: float | None = None


def measure(
    predictors: Mapping[str, Predictor], batches: Iterable[tuple[np.ndarray, np.ndarray]]
) -> dict[str, Accuracy]:
    """Runs classifiers over a labelled split, every one on the same batches, and compares them with the first.

    Args:
        predictors: Classifiers by name. The first is the reference of agreement and differences.
        batches: Pairs of preprocessed images `(n, height, width, channels)` and integer labels `(n,)`, NumPy arrays
            or tensors. Read once.

    Returns:
        The accuracy of each classifier, in the order given.

    Raises:
        ValueError: If there is no image, a label is out of range, or classifiers differ in their number of classes.
    """
    reference_name = next(iter(predictors))
    tallies: dict[str, _Tally] = {}
    for images, labels in batches:
        images, labels = np.asarray(images, np.float32), np.asarray(labels)
        if len(images) == 0:
            continue
        scores = {name: np.asarray(predictor.scores(images)) for name, predictor in predictors.items()}
        reference = scores[reference_name]
        _check(scores, labels, reference_name)
        for name in predictors:
            tally = tallies.setdefault(name, _Tally(reference.shape[1]))
            tally.add(scores[name], labels, None if name == reference_name else reference)
    if not tallies:
        raise ValueError("There is nothing to measure: the evaluation split holds no images.")
    return {name: tally.result() for name, tally in tallies.items()}


def _check(scores: Mapping[str, np.ndarray], labels: np.ndarray, reference: str) -> None:
    count, classes = scores[reference].shape
    for name, values in scores.items():
        if values.shape != (count, classes):
            raise ValueError(f"{name} gives scores of shape {values.shape}; {reference} gives {(count, classes)}.")
    if labels.shape != (count,):
        raise ValueError(f"Expected one integer label for each of {count} images, but got shape {labels.shape}.")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"The model scores {classes} classes, but the split has labels from {labels.min()} to {labels.max()}: "
            "evaluate it on the dataset that it was trained for."
        )


class _Tally:
    """Running counts of one classifier."""

    def __init__(self, classes: int):
        self._seen = np.zeros(classes, np.int64)
        self._right = np.zeros(classes, np.int64)
        self._in_top_k = self._agreeing = self._not_finite = 0
        self._score_difference = self._logit_difference = 0.0
        self._compared = False

    def add(self, scores: np.ndarray, labels: np.ndarray, reference: np.ndarray | None) -> None:
        finite = np.isfinite(scores).all(axis=1)
        self._not_finite += int(np.sum(~finite))
        np.add.at(self._seen, labels, 1)
        best = scores.argmax(axis=1)
        np.add.at(self._right, labels[finite & (best == labels)], 1)
        own = np.take_along_axis(scores, labels[:, None], axis=1)
        # A tie counts against the label, as it must: a constant model would otherwise be right every time.
        rank = np.sum(scores >= own, axis=1) - 1
        self._in_top_k += int(np.sum(finite & ((rank < TOP_K) | (best == labels))))
        if reference is None:
            return
        self._compared = True
        self._agreeing += int(np.sum(finite & (best == reference.argmax(axis=1))))
        if finite.any():
            difference = np.abs(scores[finite] - reference[finite]).max()
            self._score_difference = max(self._score_difference, float(difference))
            difference = np.abs(_logits(scores[finite], reference) - _logits(reference[finite], reference)).max()
            self._logit_difference = max(self._logit_difference, float(difference))

    def result(self) -> Accuracy:
        examples = int(self._seen.sum())
        shares = [right / seen if seen else None for right, seen in zip(self._right, self._seen, strict=True)]
        return Accuracy(
            examples=examples,
            top1=float(self._right.sum() / examples),
            top5=self._in_top_k / examples,
            per_class=tuple(None if share is None else float(share) for share in shares),
            not_finite=self._not_finite,
            agreement=self._agreeing / examples if self._compared else None,
            largest_score_difference=self._score_difference if self._compared else None,
            largest_logit_difference=self._logit_difference if self._compared else None,
        )


def _logits(scores: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Logits, with their mean over classes taken off where `reference` shows that the model ends in softmax."""
    if reference.min() < 0.0 or np.abs(reference.sum(axis=1) - 1.0).max() > 1e-3:
        return scores
    # Probabilities below the smallest float32 round to zero; the clip keeps their logarithm finite.
    logs = np.log(np.maximum(scores.astype(np.float64), np.finfo(np.float32).tiny))
    return logs - logs.mean(axis=1, keepdims=True)
