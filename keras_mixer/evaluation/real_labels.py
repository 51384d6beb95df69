"""ImageNet with ReaL labels: several right answers for an image, or none (Beyer et al., 2020, arXiv 2006.07159)."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from keras_mixer.data import Preprocessing
from keras_mixer.evaluation.predictors import Predictor

DATASET = "imagenet2012_real"


def real_accuracy(predictions: np.ndarray, label_sets: Sequence[Sequence[int]]) -> tuple[float, int]:
    """Share of images whose predicted class is any of their labels; images without labels are left out.

    Args:
        predictions: Predicted classes `(n,)`.
        label_sets: The right classes of each image.

    Returns:
        The accuracy, and the number of images that count.

    Raises:
        ValueError: If no image has a label.
    """
    if len(predictions) != len(label_sets):
        raise ValueError(f"Expected as many sets of labels as predictions, {len(predictions)}; got {len(label_sets)}.")
    pairs = zip(predictions, label_sets, strict=True)
    right = [int(prediction) in set(map(int, labels)) for prediction, labels in pairs if len(labels)]
    if not right:
        raise ValueError("None of the images has a ReaL label.")
    return float(np.mean(right)), len(right)


def real_batches(
    preprocessing: Preprocessing,
    batch_size: int,
    *,
    data_dir: str | None = None,
    builder=None,
    limit: int | None = None,
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Reads the TFDS dataset `imagenet2012_real`, which has to be prepared or downloadable.

    Args:
        preprocessing: What the model expects.
        batch_size: Images per batch.
        data_dir: Where TFDS datasets are stored.
        builder: A TFDS builder with the same features, instead.
        limit: Only as many images.

    Yields:
        Images `(n, height, width, channels)` float32, and the classes of each.
    """
    import tensorflow as tf
    import tensorflow_datasets as tfds

    builder = builder or tfds.builder(DATASET, data_dir=data_dir)
    records = builder.as_dataset(split="validation", decoders={"image": tfds.decode.SkipDecoding()})
    records = records.take(-1 if limit is None else limit)
    images = records.map(lambda record: preprocessing(record["image"]), num_parallel_calls=tf.data.AUTOTUNE)
    labels = records.map(lambda record: record["real_label"])
    pairs = tf.data.Dataset.zip(images.batch(batch_size), labels.ragged_batch(batch_size))
    for image_batch, label_batch in pairs.prefetch(1):
        yield image_batch.numpy(), [np.asarray(row) for row in label_batch]


def measure_real(
    predictor: Predictor,
    batches: Iterable[tuple[np.ndarray, Sequence[Sequence[int]]]],
    classes: np.ndarray | None = None,
) -> tuple[float, int]:
    """Runs a classifier over images with sets of labels.

    Args:
        predictor: The classifier.
        batches: Images and their sets of labels, see `real_batches`.
        classes: Index among the classifier's scores of each class of the labels, see `class_subset`; None where they
            are the same.

    Returns:
        ReaL accuracy, and the number of images that count.
    """
    predictions: list[int] = []
    label_sets: list[Sequence[int]] = []
    for images, labels in batches:
        scores = predictor.scores(images)
        predictions += (scores if classes is None else scores[:, classes]).argmax(axis=1).tolist()
        label_sets += list(labels)
    return real_accuracy(np.array(predictions), label_sets)


def class_subset(names: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """Finds classes among those of a model, as the 1,000 of ImageNet among 21,843, by their WordNet ids.

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
