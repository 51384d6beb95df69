"""Images that calibrate int8, and random images that compare artefacts if there is no evaluation split."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from keras_mixer.card import ModelCard
from keras_mixer.dataset import DatasetSpec
from keras_mixer.images import MAX_PIXELS
from keras_mixer.shapes import positive_integer

PLACES, IMAGES_OF_A_PLACE = 20, 10
RANDOM_IMAGES, BATCH = 64, 16


def calibration_images(
    card: ModelCard, dataset: DatasetSpec | None = None, *, corrupt_limit: int = 0, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Reads up to 200 preprocessed images of the training split of a model's dataset.

    They come from 20 positions spread over the split, because a folder of images is sorted by class. If the dataset has
    no split "train", they come from the split that the card or `dataset` names.

    Returns:
        Images, float32 `(n, height, width, channels)`.

    Raises:
        ValueError: If no dataset is named, it cannot be opened, or more than `corrupt_limit` images cannot be read.
    """
    from keras_mixer.data import CorruptImages, evaluation_batches, load

    spec = dataset or card.dataset
    if spec is None:
        raise ValueError(
            f"int8 needs images to calibrate on, but the card of {card.name!r} names no dataset: give one, such as "
            "with --dataset, or choose a format without int8."
        )
    training = dataclasses.replace(spec, split="train")
    try:
        source, spec = load(training), training
    except ValueError:
        source = load(spec)
    count = PLACES * IMAGES_OF_A_PLACE
    if source.num_examples > count and spec.split.isidentifier():
        starts = [index * source.num_examples // PLACES for index in range(PLACES)]
        slices = [f"{spec.split}[{start}:{start + IMAGES_OF_A_PLACE}]" for start in starts]
        source = load(dataclasses.replace(spec, split="+".join(slices)))
    corrupt = CorruptImages(corrupt_limit, max_pixels)
    with corrupt.explained():
        images, _, weights = next(iter(evaluation_batches(source, card.preprocessing, count, corrupt=corrupt)))
    return np.asarray(images)[np.asarray(weights) > 0]


class RandomImages:
    """At most 64 images of noise in the range of a model's input. Every iteration yields the same images."""

    def __init__(self, card: ModelCard, limit: int | None = None):
        self._preprocessing = card.preprocessing
        self.num_examples = RANDOM_IMAGES if limit is None else min(positive_integer("limit", limit), RANDOM_IMAGES)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields preprocessed images `(n, height, width, channels)` float32, and zeros in place of labels."""
        rng = np.random.default_rng(0)
        for start in range(0, self.num_examples, BATCH):
            count = min(BATCH, self.num_examples - start)
            pixels = rng.uniform(0, 1, (count, *self._preprocessing.input_shape))
            images = (pixels - np.asarray(self._preprocessing.mean)) / np.asarray(self._preprocessing.std)
            yield images.astype(np.float32), np.zeros(count, np.int64)
