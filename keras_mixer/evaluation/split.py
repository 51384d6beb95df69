"""The labelled split that a model is measured on, found by its card."""

from collections.abc import Iterator

import numpy as np

from keras_mixer.data import CorruptImages, DatasetSpec, ModelCard, Source, evaluation_batches, load

Batch = tuple[np.ndarray, np.ndarray]


class EvaluationSplit:
    """Preprocessed images with labels, the same ones in the same order whenever it is iterated.

    Attributes:
        source: Where the images come from.
        num_examples: How many of them are read.

    Args:
        card: The model's card: preprocessing, class names, and the split unless `dataset` is given.
        dataset: Another split than the card's.
        batch_size: Images of a batch.
        limit: Reads the first so many images alone; None for all.

    Raises:
        ValueError: If neither names a split, it cannot be opened, or its classes are not the model's.
    """

    def __init__(
        self,
        card: ModelCard,
        dataset: DatasetSpec | None = None,
        *,
        batch_size: int = 64,
        limit: int | None = None,
    ):
        spec = dataset or card.dataset
        if spec is None:
            raise ValueError(f"The card of {card.name!r} names no dataset to evaluate on: name one.")
        self.source: Source = load(spec)
        if self.source.class_names != card.class_names:
            raise ValueError(
                f"The classes of {spec.name}, split {spec.split}, are not those of {card.name!r}: "
                f"{_few(self.source.class_names)} instead of {_few(card.class_names)}."
            )
        self.num_examples = min(self.source.num_examples, limit or self.source.num_examples)
        self._preprocessing, self._batch_size = card.preprocessing, batch_size

    def __iter__(self) -> Iterator[Batch]:
        left = self.num_examples
        corrupt = CorruptImages()
        with corrupt.explained():
            for images, labels, _ in evaluation_batches(
                self.source, self._preprocessing, self._batch_size, corrupt=corrupt
            ):
                yield images.numpy()[:left], labels.numpy()[:left]
                left -= len(labels)
                if left <= 0:
                    return


def _few(names: tuple[str, ...]) -> str:
    return f"{len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
