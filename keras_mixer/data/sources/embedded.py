"""The embedded digits without TensorFlow: those of scikit-learn, in the splits and the order of the TFDS dataset.

Joined splits such as "train+test" follow each other here, but TFDS interleaves them.
"""

import copy
import functools
import hashlib
from collections.abc import Sequence

import numpy as np

from keras_mixer.data.sources.base import Source, no_split
from keras_mixer.data.sources.splits import parts
from keras_mixer.dataset import DatasetSpec
from keras_mixer.extras import require
from keras_mixer.images import as_png

CLASSES = tuple(str(digit) for digit in range(10))
TEST_EXAMPLES = 360  # a fifth of 1,797
SPLIT_SEED = 0


@functools.cache
def embedded_digits() -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Returns images, uint8 `(1797, 8, 8, 1)`, labels, and the examples of each split by their numbers.

    Raises:
        ImportError: If scikit-learn is not installed.
    """
    require("sklearn", command="pip install scikit-learn", purpose="The digits dataset")
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    # The grey levels 0 to 16 become 0 to 255.
    images = np.round(images.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    order = np.random.RandomState(SPLIT_SEED).permutation(len(images))
    return images, labels.astype(np.int64), {"train": order[TEST_EXAMPLES:], "test": order[:TEST_EXAMPLES]}


class EmbeddedDigits(Source):
    """A split of the digits, example by example as TFDS stores them."""

    in_numpy = True

    def __init__(self, spec: DatasetSpec):
        super().__init__(spec, CLASSES, (8, 8, 1))
        self.images, self.labels, splits = embedded_digits()
        sizes = {name: len(numbers) for name, numbers in splits.items()}
        try:
            chosen = [_stored(name, splits[name])[part] for name, part in parts(spec.split, sizes)]
        except (KeyError, ValueError) as error:
            raise no_split(spec, sizes) from error
        self.numbers = np.concatenate(chosen)
        if not len(self.numbers):
            raise ValueError(f"The split {spec.split!r} of {spec.name} is empty.")
        self.labels = self.labels[self.numbers]

    @property
    def num_examples(self) -> int:
        return len(self.numbers)

    def read(self, index: int) -> bytes:
        return as_png(self.images[self.numbers[index]])

    def chosen(self, indices: Sequence[int] | np.ndarray) -> "EmbeddedDigits":
        part = copy.copy(self)
        part.numbers, part.labels = self.numbers[indices], self.labels[indices]
        return part


def _stored(split: str, numbers: np.ndarray) -> np.ndarray:
    """Orders a split as TFDS does when it writes a dataset: by a hash of the keys."""
    return np.array(sorted(numbers, key=lambda number: hashlib.md5(f"{split}{number}".encode()).hexdigest()))
