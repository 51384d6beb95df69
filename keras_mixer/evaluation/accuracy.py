"""Accuracy of classifiers on the same batches: against the labels, and against each other."""

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from keras_mixer.artefacts import Predictor
from keras_mixer.evaluation.calibration import (
    are_probabilities,
    binned_calibration,
    comparable_logits,
    confidences,
    confusion_matrix,
)

TOP_K = 5
NOT_FINITE = -1  # stands for the predicted class of an image without finite scores


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """The accuracy of one classifier on a labelled split.

    Attributes:
        examples: Number of images.
        top1: Share of images whose label has the highest score.
        top5: Share of images whose label is among the five highest scores.
        per_class: Share of each class's images that are recognised; None for a class without images.
        not_finite: Number of images with a NaN or an infinity among their scores. They count as wrong.
        calibration_error: Expected calibration error (see `calibration`) over the images with finite scores; None if
            there are no such images. Scores that are not probabilities count as logits.
        labels: Class of each image, `(examples,)`.
        predictions: The class with the highest score, `(examples,)`; -1 for an image without finite scores.
        agreement: Share of images to which the classifier and the reference give finite scores and the same best class;
            None for the reference itself.
        largest_score_difference: Largest absolute difference from a score of the reference, over the images to which
            both give finite scores; None for the reference, or if there are no such images.
        largest_logit_difference: The same for logits. Softmax hides a constant per image, so the logits of a model that
            ends in softmax are compared after their mean is subtracted.
    """

    examples: int
    top1: float
    top5: float
    per_class: tuple[float | None, ...]
    not_finite: int
    calibration_error: float | None
    labels: np.ndarray = dataclasses.field(repr=False, compare=False)
    predictions: np.ndarray = dataclasses.field(repr=False, compare=False)
    agreement: float | None = None
    largest_score_difference: float | None = None
    largest_logit_difference: float | None = None

    def confusion_matrix(self) -> np.ndarray:
        """Counts how often each class (row) is predicted as each (column), over the images with finite scores.

        Returns:
            Counts `(classes, classes)`.
        """
        finite = self.predictions != NOT_FINITE
        return confusion_matrix(self.predictions[finite], self.labels[finite], len(self.per_class))


def measure(
    predictors: Mapping[str, Predictor], batches: Iterable[tuple[np.ndarray, np.ndarray]]
) -> dict[str, Accuracy]:
    """Runs classifiers over the same labelled batches, and compares each with the first.

    Args:
        predictors: Classifiers by name. The first is the reference for agreement and differences.
        batches: Pairs of preprocessed images `(n, height, width, channels)` and integer labels `(n,)`, NumPy arrays
            or tensors. They are read once.

    Returns:
        The accuracy of each classifier, in the order given.

    Raises:
        ValueError: If there is no image, a label is out of range, or classifiers differ in their number of classes.

    Example:
        >>> litert, card = keras_mixer.evaluation.open_classifier("saved_models/digits/model.tflite")
        >>> split = keras_mixer.evaluation.EvaluationSplit(card)
        >>> keras_mixer.evaluation.measure({"litert": litert}, split)["litert"].top1
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
            tally.add(scores[name], labels, reference, compare=name != reference_name)
    if not tallies:
        raise ValueError("There is nothing to measure: the evaluation split holds no images.")
    return {name: tally.result() for name, tally in tallies.items()}


def _check(scores: Mapping[str, np.ndarray], labels: np.ndarray, reference: str) -> None:
    count, classes = scores[reference].shape
    for name, values in scores.items():
        if values.shape != (count, classes):
            raise ValueError(f"{name} gives scores of shape {values.shape}, but {reference} {(count, classes)}.")
    if labels.shape != (count,):
        raise ValueError(f"Expected one integer label for each of {count} images, but got shape {labels.shape}.")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"The model scores {classes} classes, but the split has labels from {labels.min()} to {labels.max()}: "
            "evaluate it on the dataset that it was trained for."
        )


class _Tally:
    """The results of one classifier on the images so far."""

    def __init__(self, classes: int):
        self._classes = classes
        self._labels: list[np.ndarray] = []
        self._predictions: list[np.ndarray] = []
        self._confidences: list[np.ndarray] = []
        self._in_top_k = 0
        self._agreeing: int | None = None
        self._score_differences: list[float] = []
        self._logit_differences: list[float] = []

    def add(self, scores: np.ndarray, labels: np.ndarray, reference: np.ndarray, compare: bool) -> None:
        finite = np.isfinite(scores).all(axis=1)
        softmaxed = are_probabilities(reference)
        best = np.where(finite, scores.argmax(axis=1), NOT_FINITE)
        self._labels.append(labels)
        self._predictions.append(best)
        self._confidences.append(confidences(scores[finite], softmaxed))
        own = np.take_along_axis(scores, labels[:, None], axis=1)
        # A tie counts against the label. A constant model would otherwise be right every time.
        rank = np.sum(scores >= own, axis=1) - 1
        self._in_top_k += int(np.sum(finite & ((rank < TOP_K) | (best == labels))))
        if not compare:
            return
        both = finite & np.isfinite(reference).all(axis=1)
        self._agreeing = (self._agreeing or 0) + int(np.sum(both & (best == reference.argmax(axis=1))))
        if both.any():
            ours, theirs = scores[both], reference[both]
            self._score_differences.append(float(np.abs(ours - theirs).max()))
            ours, theirs = comparable_logits(ours, softmaxed), comparable_logits(theirs, softmaxed)
            self._logit_differences.append(float(np.abs(ours - theirs).max()))

    def result(self) -> Accuracy:
        labels, predictions = np.concatenate(self._labels), np.concatenate(self._predictions)
        right, finite = predictions == labels, predictions != NOT_FINITE
        seen = np.bincount(labels, minlength=self._classes)
        recognised = np.bincount(labels[right], minlength=self._classes)
        sure = np.concatenate(self._confidences)
        return Accuracy(
            examples=len(labels),
            top1=float(right.mean()),
            top5=self._in_top_k / len(labels),
            per_class=tuple(float(r / s) if s else None for r, s in zip(recognised, seen, strict=True)),
            not_finite=int(np.sum(~finite)),
            calibration_error=binned_calibration(sure, right[finite]).error if len(sure) else None,
            labels=labels,
            predictions=predictions,
            agreement=None if self._agreeing is None else self._agreeing / len(labels),
            largest_score_difference=max(self._score_differences, default=None),
            largest_logit_difference=max(self._logit_differences, default=None),
        )
