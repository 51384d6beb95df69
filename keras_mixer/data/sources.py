"""Where labelled images come from: a TFDS dataset, a folder of image files, or the embedded digits."""

import abc
import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_mixer.dataset import DatasetSpec

LABELS_AT_ONCE = 4096


class Source(abc.ABC):
    """Encoded images with integer labels, in an order that never changes.

    Attributes:
        spec: Where it came from; `load(source.spec)` gives it again.
        class_names: Names of the classes; label i is `class_names[i]`.
        image_shape: (height, width, channels) that all images share, or None where it is not known beforehand.
    """

    def __init__(self, spec: DatasetSpec, class_names: tuple[str, ...], image_shape: tuple[int, int, int] | None):
        self.spec = spec
        self.class_names = class_names
        self.image_shape = image_shape

    @property
    @abc.abstractmethod
    def num_examples(self) -> int:
        """Number of examples in the split."""

    @abc.abstractmethod
    def examples(self) -> tf.data.Dataset:
        """All examples once, in their fixed order.

        Returns:
            A dataset of `{"image": encoded bytes (string scalar), "label": int64 scalar, "index": int64 scalar}`;
            `index` is what `location` takes.
        """

    def shuffled(self, seed: tf.Tensor) -> tf.data.Dataset:
        """All examples once, shuffled as far as reading allows: the files, say, but not what is in each.

        Args:
            seed: int64 scalar that decides about the order.
        """
        del seed
        return self.examples()

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """Label of every example, int64 `(num_examples,)`."""
        batches = self.examples().map(lambda example: example["label"]).batch(LABELS_AT_ONCE)
        return np.concatenate([np.empty(0, np.int64), *batches.as_numpy_iterator()])

    def chosen(self, indices: Sequence[int] | np.ndarray) -> "Source":
        """Some of the examples alone, in their order.

        Args:
            indices: Their positions in `examples()`, rising, each once.
        """
        return _Chosen(self, np.asarray(indices, np.int64))

    def part(self, num_parts: int, index: int) -> "Source":
        """One of `num_parts` parts of about equal size that together hold every example once."""
        if num_parts == 1:
            return self
        raise NotImplementedError(f"{type(self).__name__} is not read in parts.")

    def location(self, index: int) -> str:
        """Says where example `index` is, for messages."""
        return f"example {index} of {self.spec.name}, split {self.spec.split}"


class _Chosen(Source):
    """Some examples of a source, of which the others are not decoded."""

    def __init__(self, source: Source, indices: np.ndarray):
        super().__init__(source.spec, source.class_names, source.image_shape)
        self._source, self._indices = source, indices

    @property
    def num_examples(self) -> int:
        return len(self._indices)

    def examples(self) -> tf.data.Dataset:
        end = int(self._indices[-1]) + 1 if len(self._indices) else 0
        wanted = tf.constant(np.isin(np.arange(end), self._indices))
        # By position: `index` may count from the start of the split that the source is a slice of.
        numbered = self._source.examples().take(end).enumerate()
        return numbered.filter(lambda position, _: tf.gather(wanted, position)).map(lambda _, example: example)

    def location(self, index: int) -> str:
        return self._source.location(index)


def load(
    dataset: DatasetSpec | str, split: str | None = None, data_dir: str | None = None, label_key: str | None = None
) -> Source:
    """Opens a split of a dataset; the embedded digits are prepared on first use, other TFDS datasets downloaded.

    Args:
        dataset: A specification, or the name for one (see `DatasetSpec`).
        split: Split expression; with a specification it replaces the specification's. "train" by default.
        data_dir: Where TFDS datasets are stored.
        label_key: The feature that holds the label.

    Returns:
        The source.

    Raises:
        ValueError: If there is no such dataset, split or label, saying which there are; or if it can be neither found
            nor downloaded.

    Example:
        >>> source = keras_mixer.data.load("digits", split="test")
        >>> source.num_examples, len(source.class_names)
        (360, 10)
    """
    spec = dataset if isinstance(dataset, DatasetSpec) else DatasetSpec(dataset)
    given = {"split": split, "data_dir": data_dir, "label_key": label_key}
    spec = dataclasses.replace(spec, **{name: value for name, value in given.items() if value is not None})
    # Imported here, for both modules build on the classes above.
    if spec.is_folder:
        from keras_mixer.data.folder import FolderSource

        return FolderSource(spec)
    from keras_mixer.data.catalog import TfdsSource

    return TfdsSource(spec)
