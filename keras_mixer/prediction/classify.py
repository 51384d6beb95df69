"""Classifies the images of shards. Images are read ahead and decoded in parallel."""

import dataclasses
import functools
import itertools
import os
import socket
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from keras_mixer.artefacts import Predictor
from keras_mixer.artefacts.predictor import in_batches
from keras_mixer.card import ModelCard
from keras_mixer.classes import best_classes
from keras_mixer.data.arrays import in_order, preprocess, reader
from keras_mixer.images import MAX_PIXELS, problem
from keras_mixer.prediction.shards import Shard
from keras_mixer.prediction.store import Prediction, PredictionStore
from keras_mixer.prediction.table import PredictionTable
from keras_mixer.shapes import positive_integer

_READERS = 16  # files read at a time, because an object store takes tens of milliseconds to answer


def classify(
    predictor: Predictor,
    card: ModelCard,
    shards: Sequence[Shard],
    *,
    top: int = 5,
    batch_size: int = 32,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[Prediction]:
    """Classifies images, in the order of the shards.

    Args:
        predictor: The classifier.
        card: Its class names and preprocessing.
        shards: The images.
        top: Classes per image, or all classes if there are fewer.
        batch_size: Images per call of the classifier. The last call is filled up to this number.
        max_pixels: Largest number of pixels (height x width) of an image.

    Yields:
        One prediction per image. It holds an error if the image cannot be read or decoded, or if the scores are not
        finite.

    Raises:
        OSError: If a parquet file can no longer be read.
        ValueError: If a parquet file is damaged, or `top` or `batch_size` is not a positive integer.

    Example:
        >>> predictor, card = keras_mixer.evaluation.open_classifier("saved_models/digits")
        >>> shards = keras_mixer.prediction.find_images(["photographs"])
        >>> [prediction.labels[:1] for prediction in keras_mixer.prediction.classify(predictor, card, shards)]
    """
    top = min(positive_integer("top", top), len(card.class_names))
    names = itertools.chain.from_iterable(shard.names for shard in shards)
    batch_size = min(positive_integer("batch_size", batch_size), sum(len(shard.names) for shard in shards))
    for images, readable, unread, errors in _batches(card, shards, batch_size, max_pixels):
        classes, scores = _best(predictor, images, readable, batch_size, top)
        for index in range(len(images)):
            name = next(names)
            if errors[index]:
                yield Prediction(name, error=errors[index].decode())
            elif not readable[index]:
                reason = problem(unread[index], max_pixels) or "it is damaged"
                yield Prediction(name, error=f"{name} cannot be read: {reason}.")
            elif not np.isfinite(scores[index]).all():
                yield Prediction(name, error=f"The model's scores of {name} are not finite.")
            else:
                best = tuple(map(int, classes[index]))
                labels = tuple(card.class_names[number] for number in best)
                yield Prediction(name, best, labels, tuple(float(score) for score in scores[index]))


@dataclasses.dataclass(frozen=True)
class Job:
    """Where predictions are written, and how they are made.

    Attributes:
        store: The store that the predictions are written to.
        top: Classes per image.
        batch_size: Images per call of the classifier.
        part_size: Images per part file. A run that is killed loses at most one part per worker.
        max_pixels: Largest number of pixels (height x width) of an image.
    """

    store: PredictionStore | PredictionTable
    top: int = 5
    batch_size: int = 32
    part_size: int = 1024
    max_pixels: int = MAX_PIXELS


@dataclasses.dataclass(frozen=True)
class Part:
    """A part file that has been written.

    Attributes:
        images: Number of rows.
        errors: Number of rows for images that could not be read.
        worker: Machine and process that wrote it.
    """

    images: int
    errors: int
    worker: str


def predict_to_store(job: Job, predictor: Predictor, card: ModelCard, shards: Sequence[Shard]) -> Iterator[Part]:
    """Classifies the images of shards on this machine, and writes a part whenever it is full or its shard ends.

    Args:
        job: The store, and how its rows are made.
        predictor: The classifier.
        card: Its class names and preprocessing.
        shards: The images.

    Yields:
        Each part, once it is written.

    Raises:
        OSError: If the store cannot be written, or a parquet file cannot be read.
        ValueError: If a parquet file is damaged.

    Example:
        >>> predictor, card = keras_mixer.evaluation.open_classifier("runs/digits")
        >>> store = PredictionStore("predictions")
        >>> store.open({"model": fingerprint("runs/digits"), "top": 5})
        >>> shards = left_over(find_images(["photographs"]), store.done())
        >>> images = sum(part.images for part in predict_to_store(Job(store), predictor, card, shards))
    """
    part_size = positive_integer("part_size", job.part_size)
    worker = f"{socket.gethostname()}:{os.getpid()}"
    predictions = classify(predictor, card, shards, top=job.top, batch_size=job.batch_size, max_pixels=job.max_pixels)
    for shard in shards:
        for start in range(0, len(shard.names), part_size):
            size = min(part_size, len(shard.names) - start)
            rows = list(itertools.islice(predictions, size))
            job.store.write(rows)
            yield Part(len(rows), sum(row.error is not None for row in rows), worker)


def _best(predictor: Predictor, images: np.ndarray, readable: np.ndarray, batch_size: int, top: int):
    """Returns indices and scores `(n, top)` of the best classes, see `best_classes`."""
    if not readable.any():
        return np.zeros((len(images), top), np.int32), np.zeros((len(images), top), np.float32)
    # Another batch size would make the model compile again.
    scores = np.asarray(in_batches(predictor.scores, batch_size)(images))
    classes = best_classes(scores, top)
    return classes, np.take_along_axis(scores, classes, axis=1)


def _batches(card: ModelCard, shards: Sequence[Shard], batch_size: int, max_pixels: int):
    """Yields batches: inputs, whether each was decoded, the bytes of those that were not, and errors of reading."""
    # Importing TensorFlow takes seconds, so it reads images only where it runs the model anyway.
    make = _graph_batches if sys.modules.get("tensorflow") else _array_batches
    return make(card, shards, batch_size, max_pixels)


def _array_batches(card: ModelCard, shards: Sequence[Shard], batch_size: int, max_pixels: int):
    decode, nothing = reader(card.preprocessing, max_pixels), np.zeros(card.preprocessing.input_shape, np.float32)

    def prepare(found):
        encoded, error = found
        try:
            return preprocess(decode(encoded), card.preprocessing), True, b"", error.encode()
        except ValueError:
            return nothing, False, encoded, error.encode()

    prepared = in_order(prepare, _read_ahead(shards, window=2 * batch_size), 2 * batch_size)
    while rows := list(itertools.islice(prepared, batch_size)):
        images, readable, unread, errors = zip(*rows, strict=True)
        yield np.stack(images), np.array(readable), unread, errors


def _graph_batches(card: ModelCard, shards: Sequence[Shard], batch_size: int, max_pixels: int):
    import tensorflow as tf

    from keras_mixer.data.pixels import attempt_each, preprocess, read
    from keras_mixer.data.stream import AT_ONCE

    no_image = tf.zeros(card.preprocessing.input_shape)
    decode = functools.partial(read, max_pixels=max_pixels)
    failures: list[Exception] = []

    def examples():
        try:
            yield from _read_ahead(shards, window=2 * batch_size)
        except Exception as error:  # TensorFlow keeps only the text of an error
            failures.append(error)
            raise

    def prepare(encoded, error):
        images, readable = attempt_each(lambda data: preprocess(data, card.preprocessing, decode), encoded, no_image)
        return images, readable, tf.where(readable, b"", encoded), error

    signature = (tf.TensorSpec((), tf.string), tf.TensorSpec((), tf.string))
    dataset = tf.data.Dataset.from_generator(examples, output_signature=signature)
    dataset = dataset.batch(min(AT_ONCE, batch_size)).map(
        prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    try:
        yield from dataset.unbatch().batch(batch_size).prefetch(2).as_numpy_iterator()
    except tf.errors.OpError:
        if failures:
            raise failures[0] from None
        raise


def _read_ahead(shards: Sequence[Shard], window: int) -> Iterator[tuple[bytes, str]]:
    """Yields the bytes and the error of each image, one of which is empty. Reads up to `window` images ahead."""

    def read(reading) -> tuple[bytes, str]:
        try:
            return reading(), ""
        except OSError as error:
            return b"", str(error)

    readings = (reading for shard in shards for _, reading in zip(shard.names, shard.readings(), strict=True))
    return in_order(read, readings, window, _READERS)
