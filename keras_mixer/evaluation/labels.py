"""Evaluation on some of a model's classes, and with ImageNet's ReaL labels (Beyer et al., 2020, arXiv 2006.07159)."""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from keras_mixer.artefacts import Predictor
from keras_mixer.classes import checked_names
from keras_mixer.dataset import DatasetSpec
from keras_mixer.evaluation.confidence import are_probabilities
from keras_mixer.extras import require
from keras_mixer.shapes import positive_integer


def class_subset(names: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """Finds some of a model's classes by name, such as the 1,000 of ImageNet among those of ImageNet-21k.

    Args:
        names: Names of the model's classes, in the order of its scores. For ImageNet they are WordNet ids.
        wanted: Names of the classes to keep, in the order of the labels.

    Returns:
        Indices `(wanted,)`: `scores[:, indices]` are the scores of the wanted classes.

    Raises:
        ValueError: If a wanted class is not among the model's, or an argument is not a sequence of strings.
    """
    wanted = checked_names(wanted, argument="wanted")
    places = {name: index for index, name in enumerate(checked_names(names, argument="names"))}
    missing = [name for name in wanted if name not in places]
    if missing:
        raise ValueError(f"{len(missing)} of {len(wanted)} classes are not among the model's, such as {missing[0]!r}.")
    return np.array([places[name] for name in wanted])


def on_classes(predictor: Predictor, classes: np.ndarray) -> Predictor:
    """Restricts a classifier to some of its classes.

    Args:
        predictor: The classifier.
        classes: Indices of the classes among its scores, as `class_subset` returns them.

    Returns:
        A classifier whose score i is that of class `classes[i]`. Probabilities are rescaled to sum to 1, which equals a
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


def real_dataset(data_dir: str | os.PathLike | None = None) -> DatasetSpec:
    """Returns the TFDS dataset with ReaL labels, stored in `data_dir`. Its ordinary labels are ImageNet's."""
    folder = None if data_dir is None else os.fspath(data_dir)
    return DatasetSpec("imagenet2012_real", split="validation", data_dir=folder, label_key="original_label")


def real_label_sets(dataset: DatasetSpec, limit: int | None = None) -> list[np.ndarray]:
    """Reads the ReaL labels of a split, in the order in which `EvaluationSplit` reads its images.

    Args:
        dataset: The dataset that `real_dataset` returns.
        limit: Number of images whose labels are read, from the start; None reads all.

    Returns:
        The correct classes of each image, integers `(labels,)`, which may be empty.

    Raises:
        ImportError: If tensorflow-datasets is not installed.
    """
    count = -1 if limit is None else positive_integer("limit", limit)
    require("tensorflow", "tensorflow_datasets", extra="tensorflow", purpose="Reading ReaL labels")
    import tensorflow_datasets as tfds

    builder = tfds.builder(dataset.name, data_dir=dataset.data_dir)
    records = builder.as_dataset(
        split=dataset.split,
        decoders=tfds.decode.PartialDecoding({"real_label": True}),
        read_config=tfds.ReadConfig(try_autocache=False),
        shuffle_files=False,
    )
    return [record["real_label"] for record in records.take(count).as_numpy_iterator()]


def real_accuracy(predictions: np.ndarray, label_sets: Sequence[Sequence[int] | np.ndarray]) -> tuple[float, int]:
    """Returns the share of images whose predicted class is one of their labels. Images without labels are left out.

    Args:
        predictions: Predicted classes `(n,)`.
        label_sets: The correct classes of each image.

    Returns:
        The accuracy, and the number of images with labels.

    Raises:
        ValueError: If no image has a label, or the numbers of sets and predictions differ.

    Example:
        >>> dataset = real_dataset()
        >>> accuracy = measure({"mixer": predictor}, EvaluationSplit(card, dataset))["mixer"]
        >>> share, images = real_accuracy(accuracy.predictions, real_label_sets(dataset))
    """
    if len(predictions) != len(label_sets):
        raise ValueError(f"Expected a set of labels for each of {len(predictions)} predictions; got {len(label_sets)}.")
    pairs = zip(predictions, label_sets, strict=True)
    right = [int(prediction) in set(map(int, labels)) for prediction, labels in pairs if len(labels)]
    if not right:
        raise ValueError("No image has a ReaL label.")
    return float(np.mean(right)), len(right)
