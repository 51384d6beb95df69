"""The base class of all sources of labelled images."""

import abc
import functools
import logging
from collections.abc import Iterable, Sequence

import numpy as np

from keras_mixer.data.sources.layout import FolderLayout
from keras_mixer.dataset import DatasetSpec

LABELS_AT_ONCE = 4096

_log = logging.getLogger(__name__)


class Source(abc.ABC):
    """Encoded images with integer labels, in an order that never changes.

    Attributes:
        spec: The description of the dataset; `load(source.spec)` opens it again.
        class_names: Names of the classes; label i stands for `class_names[i]`.
        image_shape: (height, width, channels) that all images share; None if that is not known before reading.
        layout: The whole folder of images that the source is a split of; None for other sources.
        in_numpy: Whether the source is read by `read`, without TensorFlow, and not by `examples`.
    """

    layout: FolderLayout | None = None
    in_numpy = False

    def __init__(self, spec: DatasetSpec, class_names: tuple[str, ...], image_shape: tuple[int, int, int] | None):
        self.spec = spec
        self.class_names = class_names
        self.image_shape = image_shape

    @property
    @abc.abstractmethod
    def num_examples(self) -> int:
        """Number of examples in the split."""

    def read(self, index: int) -> bytes:
        """Returns the encoded image at position `index` of the source; raises OSError if it cannot be read."""
        raise NotImplementedError(f"{type(self).__name__} is not read image by image.")

    def examples(self):
        """Returns a `tf.data.Dataset` with each example once, in a fixed order.

        An example is `{"image": encoded bytes (scalar string), "label": int64 scalar, "index": int64 scalar}`.
        `location` accepts the index.
        """
        raise NotImplementedError(f"{type(self).__name__} is not read by TensorFlow.")

    def shuffled(self, seed):
        """Returns each example once, in an order that the int64 scalar `seed` determines and that is fast to read."""
        del seed
        return self.examples()

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """Labels of all examples, int64 `(num_examples,)`."""
        batches = self.examples().map(lambda example: example["label"]).batch(LABELS_AT_ONCE)
        return np.concatenate([np.empty(0, np.int64), *batches.as_numpy_iterator()])

    def chosen(self, indices: Sequence[int] | np.ndarray) -> "Source":
        """Returns a source of the examples at `indices`, which are rising positions in `examples()` without repeats."""
        return _Chosen(self, np.asarray(indices, np.int64))

    def part(self, num_parts: int, index: int) -> "Source":
        """Returns one of `num_parts` parts of about equal size that together hold each example once."""
        if num_parts == 1:
            return self
        raise NotImplementedError(f"{type(self).__name__} is not read in parts.")

    def location(self, index: int) -> str:
        """Describes where example `index` comes from, for messages."""
        return f"example {index} of {self.spec.name}, split {self.spec.split}"


class _Chosen(Source):
    """Some examples of a source; the others are not decoded."""

    def __init__(self, source: Source, indices: np.ndarray):
        super().__init__(source.spec, source.class_names, source.image_shape)
        self._source, self._indices = source, indices

    @property
    def num_examples(self) -> int:
        return len(self._indices)

    def examples(self):
        import tensorflow as tf

        end = int(self._indices[-1]) + 1 if len(self._indices) else 0
        wanted = tf.constant(np.isin(np.arange(end), self._indices))
        # Examples are chosen by position, because `index` may count from the start of a whole split.
        numbered = self._source.examples().take(end).enumerate()
        return numbered.filter(lambda position, _: tf.gather(wanted, position)).map(lambda _, example: example)

    def location(self, index: int) -> str:
        return self._source.location(index)


def no_split(spec: DatasetSpec, names: Iterable[str], left_out: str = "") -> ValueError:
    """Returns the error for a split that a dataset does not have. `left_out` names other files of a folder."""
    known = ", ".join(names) or "none with images"
    return ValueError(
        f"{spec.name} has no split {spec.split!r}; it has {known}. Slices such as 'train[:90%]' work too. "
        f"{left_out}".rstrip()
    )


@functools.cache
def warn_once(text: str) -> None:
    """Logs a warning once per process, however often the same dataset is opened."""
    _log.warning(text)
