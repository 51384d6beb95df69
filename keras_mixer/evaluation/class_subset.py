"""Some of a model's classes alone, as the 1,000 of ImageNet among the 21,843 of ImageNet-21k."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from keras_mixer.evaluation.predictors import Predictor
from keras_mixer.evaluation.scores import are_probabilities


def class_subset(names: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """Finds classes among those of a model by their names: WordNet ids where these are ImageNet's.

    Args:
        names: Of the model's classes, in the order of its scores.
        wanted: Those to keep, in the order of the labels.

    Returns:
        Indices `(wanted,)`: `scores[:, indices]` are scores of the wanted classes.

    Raises:
        ValueError: If a wanted class is not among the model's.
    """
    places = {name: index for index, name in enumerate(names)}
    missing = [name for name in wanted if name not in places]
    if missing:
        raise ValueError(f"{len(missing)} of {len(wanted)} classes are not among the model's, as {missing[0]!r}.")
    return np.array([places[name] for name in wanted])


def on_classes(predictor: Predictor, classes: np.ndarray) -> Predictor:
    """Restricts a classifier to some of its classes.

    Args:
        predictor: The classifier.
        classes: Indices of the classes among its scores, see `class_subset`.

    Returns:
        A classifier whose score i is that of class `classes[i]`. Probabilities are scaled to sum to 1 again, which is
        softmax over the logits of these classes alone.

    Example:
        >>> classes = class_subset(card.class_names, imagenet.class_names)
        >>> on_classes(predictor, classes).scores(images).shape
        (64, 1000)
    """

    def scores(images: np.ndarray) -> np.ndarray:
        whole = predictor.scores(images)
        kept = whole[:, classes]
        if not are_probabilities(whole):
            return kept
        total = kept.sum(axis=1, keepdims=True, dtype=np.float64)
        return (kept / np.maximum(total, np.finfo(np.float64).tiny)).astype(np.float32)

    return dataclasses.replace(predictor, scores=scores)
