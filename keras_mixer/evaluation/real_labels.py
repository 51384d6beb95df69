"""ImageNet with ReaL labels: several right answers for an image, or none (Beyer et al., 2020, arXiv 2006.07159)."""

import os
from collections.abc import Sequence

import numpy as np

from keras_mixer.data import DatasetSpec


def real_dataset(data_dir: str | os.PathLike | None = None) -> DatasetSpec:
    """Returns the TFDS dataset that has ReaL labels, with ImageNet's own as its labels.

    Args:
        data_dir: Where TFDS datasets are stored.
    """
    folder = None if data_dir is None else os.fspath(data_dir)
    return DatasetSpec("imagenet2012_real", split="validation", data_dir=folder, label_key="original_label")


def real_label_sets(dataset: DatasetSpec, limit: int | None = None) -> list[np.ndarray]:
    """Reads the ReaL labels of a split, in the order in which `EvaluationSplit` reads its images.

    Args:
        dataset: See `real_dataset`.
        limit: Reads those of the first so many images alone; None for all.

    Returns:
        The right classes of each image, integers `(labels,)`; none for some images.
    """
    import tensorflow_datasets as tfds

    builder = tfds.builder(dataset.name, data_dir=dataset.data_dir)
    records = builder.as_dataset(
        split=dataset.split,
        decoders=tfds.decode.PartialDecoding({"real_label": True}),
        read_config=tfds.ReadConfig(try_autocache=False),
        shuffle_files=False,
    )
    return [record["real_label"] for record in records.take(-1 if limit is None else limit).as_numpy_iterator()]


def real_accuracy(predictions: np.ndarray, label_sets: Sequence[Sequence[int] | np.ndarray]) -> tuple[float, int]:
    """Share of images whose predicted class is any of their labels; images without labels are left out.

    Args:
        predictions: Predicted classes `(n,)`.
        label_sets: The right classes of each image.

    Returns:
        The accuracy, and the number of images that count.

    Raises:
        ValueError: If no image has a label, or there are not as many sets as predictions.

    Example:
        >>> dataset = real_dataset()
        >>> accuracy = measure({"mixer": predictor}, EvaluationSplit(card, dataset))["mixer"]
        >>> share, images = real_accuracy(accuracy.predictions, real_label_sets(dataset))
    """
    if len(predictions) != len(label_sets):
        raise ValueError(f"Expected as many sets of labels as predictions, {len(predictions)}; got {len(label_sets)}.")
    pairs = zip(predictions, label_sets, strict=True)
    right = [int(prediction) in set(map(int, labels)) for prediction, labels in pairs if len(labels)]
    if not right:
        raise ValueError("None of the images has a ReaL label.")
    return float(np.mean(right)), len(right)
