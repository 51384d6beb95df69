"""Classifying images into a store: the part of the work that is the same on one machine and on a cluster."""

import dataclasses
import itertools
import os
import socket
from collections.abc import Iterator, Sequence

from keras_mixer.data import ModelCard
from keras_mixer.evaluation import Predictor
from keras_mixer.prediction.classify import classify
from keras_mixer.prediction.shards import Shard
from keras_mixer.prediction.store import PredictionStore


@dataclasses.dataclass(frozen=True)
class Job:
    """How images become rows of a store.

    Attributes:
        store: Where the predictions go.
        top: Classes per image.
        batch_size: Images per call of the classifier.
        part_size: Images per part file: what is lost at most, per worker, when a run is killed.
    """

    store: PredictionStore
    top: int = 5
    batch_size: int = 32
    part_size: int = 1024


@dataclasses.dataclass(frozen=True)
class Part:
    """A part file that has been written.

    Attributes:
        images: Its rows.
        errors: Those of images that could not be read.
        worker: Machine and process that made it.
    """

    images: int
    errors: int
    worker: str


def predict_to_store(job: Job, predictor: Predictor, card: ModelCard, shards: Sequence[Shard]) -> Iterator[Part]:
    """Classifies the images of shards on this machine, and writes a part whenever it is full or its shard ends.

    Yields:
        Each part, once it is written.

    Raises:
        OSError: If the store cannot be written or a parquet file not be read.
        ValueError: If a parquet file is damaged.

    Example:
        >>> predictor, card = keras_mixer.evaluation.open_classifier("runs/digits")
        >>> store = PredictionStore("predictions")
        >>> store.open({"model": fingerprint("runs/digits"), "top": 5})
        >>> shards = left_over(find_images(["photographs"]), store.done())
        >>> images = sum(part.images for part in predict_to_store(Job(store), predictor, card, shards))
    """
    worker = f"{socket.gethostname()}:{os.getpid()}"
    predictions = classify(predictor, card, shards, top=job.top, batch_size=job.batch_size)
    for shard in shards:
        for start in range(0, len(shard.names), job.part_size):
            size = min(job.part_size, len(shard.names) - start)
            rows = list(itertools.islice(predictions, size))
            job.store.write(rows)
            yield Part(len(rows), sum(row.error is not None for row in rows), worker)
