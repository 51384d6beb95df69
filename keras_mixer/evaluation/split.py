"""The labelled split that a model is measured on. The model's card names it."""

import re
import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

# Public in keras_mixer.evaluation.
from keras_mixer.artefacts import keras_predictor, newest_version, on_one_tensor, open_artefact, open_classifier  # noqa: F401
from keras_mixer.card import ModelCard
from keras_mixer.dataset import DatasetSpec
from keras_mixer.evaluation.labels import class_subset
from keras_mixer.images import MAX_PIXELS
from keras_mixer.preprocessing import Preprocessing
from keras_mixer.shapes import bounded_integer, positive_integer

if TYPE_CHECKING:
    from keras_mixer.data import Source

Batch = tuple[np.ndarray, np.ndarray]

_IMAGENET, _WORDNET_ID = 1000, re.compile(r"n\d{8}")  # number and names of the classes of the ImageNet datasets


def labelled_batches(
    source: "Source",
    preprocessing: Preprocessing,
    batch_size: int,
    *,
    limit: int | None = None,
    corrupt_limit: int = 0,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[Batch]:
    """Reads the images of a source once, in order.

    Args:
        source: The labelled images.
        preprocessing: What the model expects.
        batch_size: Images of a batch.
        limit: Number of images to read, from the start; None reads all.
        corrupt_limit: Number of images that may be unreadable. They are left out, and a warning names them.
        max_pixels: Largest number of pixels (height x width) of an image. Larger images count as unreadable.

    Yields:
        Preprocessed images `(n, height, width, channels)` float32 and labels `(n,)`.

    Raises:
        ValueError: If more than `corrupt_limit` images cannot be read; the message names them.
    """
    for images, labels, _ in numbered_batches(
        source, preprocessing, batch_size, limit=limit, corrupt_limit=corrupt_limit, max_pixels=max_pixels
    ):
        yield images, labels


def numbered_batches(
    source: "Source",
    preprocessing: Preprocessing,
    batch_size: int,
    *,
    limit: int | None = None,
    corrupt_limit: int = 0,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields what `labelled_batches` yields, and the positions of the images in the source `(n,)`."""
    from keras_mixer.data import CorruptImages, CorruptImagesError, evaluation_batches
    from keras_mixer.data.batches import naming_all
    from keras_mixer.data.sources.base import warn_once

    if limit is not None and bounded_integer("limit", limit) < source.num_examples:
        source = source.chosen(np.arange(limit))
    start = 0
    corrupt = CorruptImages(corrupt_limit, max_pixels)
    try:
        with corrupt.explained():
            for images, labels, weights in evaluation_batches(source, preprocessing, batch_size, corrupt=corrupt):
                readable = np.flatnonzero(np.asarray(weights))
                if len(readable):
                    yield np.asarray(images)[readable], np.asarray(labels)[readable], start + readable
                start += len(labels)
    except CorruptImagesError as error:
        raise naming_all(error, corrupt, [source], preprocessing, "--corrupt-limit ") from error
    if corrupt.count:
        warn_once(f"{corrupt.left_out()} The accuracy is that of the other images.")


class EvaluationSplit:
    """Preprocessed images with labels, the same ones in the same order in every iteration.

    Attributes:
        source: The labelled images.
        num_examples: Number of images that are read.
        classes: If scores are restricted to the source's classes, the index of the model's class for each of them, as
            `on_classes` takes it. Labels are then indices of the source's classes. None if all classes of the model
            compete. Labels are then indices of the model's classes.
        class_names: Names of the classes that compete, in the order of the labels.

    Args:
        card: The model's card: preprocessing, class names and a split.
        dataset: A split to read instead of the card's.
        batch_size: Images of a batch.
        limit: Number of images to read, from the start; None reads all.
        corrupt_limit: Number of images that may be unreadable. They are left out.
        subset: Whether scores are restricted to the classes of the source. None does this only for an ImageNet dataset
            of 1,000 classes and a model of more, such as one for ImageNet-21k.
        max_pixels: Largest number of pixels (height x width) of an image. Larger images count as unreadable.

    Raises:
        ValueError: If there is no split, it cannot be opened, or it has classes that the model lacks.

    Example:
        >>> predictor, card = keras_mixer.evaluation.open_classifier("runs/digits")
        >>> split = keras_mixer.evaluation.EvaluationSplit(card)
        >>> keras_mixer.evaluation.measure({"digits": predictor}, split)["digits"].top1
    """

    def __init__(
        self,
        card: ModelCard,
        dataset: DatasetSpec | None = None,
        *,
        batch_size: int = 64,
        limit: int | None = None,
        corrupt_limit: int = 0,
        subset: bool | None = False,
        max_pixels: int = MAX_PIXELS,
    ):
        from keras_mixer.data import load

        spec = dataset or card.dataset
        if spec is None:
            raise ValueError(f"The card of {card.name!r} names no dataset to evaluate on: name one.")
        self.source: Source = load(spec)
        names, known = (
            tuple(unicodedata.normalize("NFC", name) for name in classes)
            for classes in (self.source.class_names, card.class_names)
        )
        self.classes: np.ndarray | None = None
        self.class_names = card.class_names
        self._labels = np.arange(len(names))  # label of each class of the source
        if names != known:
            if foreign := sorted(set(names) - set(known)):
                raise ValueError(
                    f"The classes of {spec.name}, split {spec.split}, are not those of {card.name!r}: "
                    f"{_few(names)} instead of {_few(card.class_names)}. It lacks {', '.join(foreign[:5])}"
                    f"{', ...' if len(foreign) > 5 else ''}."
                )
            places = class_subset(known, names)
            if subset or (subset is None and len(names) == _IMAGENET and all(map(_WORDNET_ID.fullmatch, names))):
                self.classes, self.class_names = places, names
            else:
                self._labels = places
        self.num_examples = self.source.num_examples
        if limit is not None:
            self.num_examples = min(self.num_examples, positive_integer("limit", limit))
        self._reading: dict = {
            "batch_size": batch_size,
            "limit": self.num_examples,
            "corrupt_limit": corrupt_limit,
            "max_pixels": max_pixels,
        }
        self._preprocessing = card.preprocessing

    def __iter__(self) -> Iterator[Batch]:
        for images, labels in labelled_batches(self.source, self._preprocessing, **self._reading):
            yield images, self._labels[labels]


def _few(names: tuple[str, ...]) -> str:
    return f"{len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
