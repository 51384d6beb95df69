"""Images without labels, to compare artefacts on where no dataset is named."""

from collections.abc import Iterator

import numpy as np

from keras_mixer.data import ModelCard

IMAGES, BATCH = 64, 16


class RandomImages:
    """Noise in the range of a model's input, the same whenever it is iterated.

    Attributes:
        num_examples: How many images there are.

    Args:
        card: The model's card, whose preprocessing gives the shape and the range.
        limit: The most images; None for 64.
    """

    def __init__(self, card: ModelCard, limit: int | None = None):
        self._preprocessing = card.preprocessing
        self.num_examples = min(limit or IMAGES, IMAGES)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields preprocessed images `(n, height, width, channels)` float32, and zeros where labels are expected."""
        rng = np.random.default_rng(0)
        for start in range(0, self.num_examples, BATCH):
            count = min(BATCH, self.num_examples - start)
            pixels = rng.uniform(0, 1, (count, *self._preprocessing.input_shape))
            images = (pixels - np.asarray(self._preprocessing.mean)) / np.asarray(self._preprocessing.std)
            yield images.astype(np.float32), np.zeros(count, np.int64)
