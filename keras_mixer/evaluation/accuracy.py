"""Compares classifiers on the same batches, with the labels and with each other."""

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from keras_mixer.artefacts import Predictor
from keras_mixer.evaluation.confidence import (
    are_probabilities,
    binned_calibration,
    comparable_logits,
    confidences,
    confusion_matrix,
)

TOP_K = 5
NOT_FINITE = -1  # the predicted class of an image whose scores are not finite


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """The accuracy of one classifier on a labelled split.

    Attributes:
        examples: Number of images.
        top1: Share of images whose label has the highest score.
        top5: Share of images whose label is among the five highest scores.
        per_class: Top-1 accuracy on the images of each class; None for a class without images.
        not_finite: Number of images with a NaN or an infinity among their scores. They count as wrong.
        calibration_error: Expected calibration error (see `calibration`) over the images with finite scores; None if
            there are no such images. Scores that are not probabilities are taken as logits.
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
        """Counts how often each class (row) is predicted as each class (column), over images with finite scores."""
        finite = self.predictions != NOT_FINITE
        return confusion_matrix(self.predictions[finite], self.labels[finite], len(self.per_class))


def measure(
    predictors: Mapping[str, Predictor], batches: Iterable[tuple[np.ndarray, np.ndarray]]
) -> dict[str, Accuracy]:
    """Runs classifiers on the same labelled batches and compares each classifier with the first.

    Args:
        predictors: Classifiers by name. The first is the reference for agreement and differences.
        batches: Pairs of preprocessed images `(n, height, width, channels)` and integer labels `(n,)`, NumPy arrays
            or tensors. The iterable is read once.

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
    judged: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in predictors}
    for images, labels in batches:
        images, labels = np.asarray(images, np.float32), np.asarray(labels)
        if len(images) == 0:
            continue
        scores = {name: np.asarray(predictor.scores(images)) for name, predictor in predictors.items()}
        reference = scores[reference_name]
        _check(scores, labels, reference_name)
        for name in predictors:
            judged[name].append(_judge(scores[name], labels, reference))
    if not judged[reference_name]:
        raise ValueError("There is nothing to measure: the evaluation split holds no images.")
    return {name: _summary(parts, reference.shape[1], name != reference_name) for name, parts in judged.items()}


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


def _judge(scores: np.ndarray, labels: np.ndarray, reference: np.ndarray) -> dict[str, np.ndarray]:
    """Evaluates one batch. Confidences and differences are computed only for images with finite scores."""
    finite = np.isfinite(scores).all(axis=1)
    both = finite & np.isfinite(reference).all(axis=1)
    softmaxed = are_probabilities(reference)
    best = np.where(finite, scores.argmax(axis=1), NOT_FINITE)
    # In the top 5, a class with an equal score counts as better than the label, because a model with constant scores
    # would otherwise always be right.
    rank = np.sum(scores >= np.take_along_axis(scores, labels[:, None], axis=1), axis=1) - 1
    ours, theirs = (comparable_logits(values[both], softmaxed) for values in (scores, reference))
    return {
        "labels": labels,
        "predictions": best,
        "confidences": confidences(scores[finite], softmaxed),
        "in_top_k": finite & ((rank < TOP_K) | (best == labels)),
        "agreeing": both & (best == reference.argmax(axis=1)),
        "score_differences": np.abs(scores[both] - reference[both]).max(axis=1),
        "logit_differences": np.abs(ours - theirs).max(axis=1),
    }


def _summary(parts: list[dict[str, np.ndarray]], classes: int, compare: bool) -> Accuracy:
    of = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    labels, predictions, sure = of["labels"], of["predictions"], of["confidences"]
    right, finite = predictions == labels, predictions != NOT_FINITE
    seen, recognised = (np.bincount(chosen, minlength=classes) for chosen in (labels, labels[right]))
    compared = compare and len(of["score_differences"]) > 0
    return Accuracy(
        examples=len(labels),
        top1=float(right.mean()),
        top5=float(of["in_top_k"].mean()),
        per_class=tuple(float(r / s) if s else None for r, s in zip(recognised, seen, strict=True)),
        not_finite=int(np.sum(~finite)),
        calibration_error=binned_calibration(sure, right[finite]).error if len(sure) else None,
        labels=labels,
        predictions=predictions,
        agreement=float(of["agreeing"].mean()) if compare else None,
        largest_score_difference=float(of["score_differences"].max()) if compared else None,
        largest_logit_difference=float(of["logit_differences"].max()) if compared else None,
    )
