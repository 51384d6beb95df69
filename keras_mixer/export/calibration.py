"""Images from which int8 takes the scales of its activations."""

import dataclasses

import numpy as np

from keras_mixer.data import CorruptImages, DatasetSpec, ModelCard, evaluation_batches, load

PLACES, IMAGES_OF_A_PLACE = 20, 10


def calibration_images(card: ModelCard, dataset: DatasetSpec | None = None, *, corrupt_limit: int = 0) -> np.ndarray:
    """Reads 200 preprocessed images, or all if there are fewer, of the training split of a model's dataset.

    They come from 20 places spread over the split, for a folder of images is sorted by class. A dataset without a
    split "train" gives them from the split it names.

    Args:
        card: The model's card.
        dataset: Another dataset than the card's.
        corrupt_limit: Number of images that may be unreadable, and are left out.

    Returns:
        Images, float32 `(n, height, width, channels)`.

    Raises:
        ValueError: If neither names a dataset, it cannot be opened, or more images cannot be read than may be.
    """
    spec = dataset or card.dataset
    if spec is None:
        raise ValueError(
            f"int8 needs images to calibrate on, and the card of {card.name!r} names no dataset: name one."
        )
    spec = _training_split(spec)
    count = load(spec).num_examples
    if count > PLACES * IMAGES_OF_A_PLACE and spec.split.isidentifier():
        starts = [place * count // PLACES for place in range(PLACES)]
        slices = [f"{spec.split}[{start}:{start + IMAGES_OF_A_PLACE}]" for start in starts]
        spec = dataclasses.replace(spec, split="+".join(slices))
    corrupt = CorruptImages(corrupt_limit)
    count = PLACES * IMAGES_OF_A_PLACE
    with corrupt.explained():
        images, _, weights = next(iter(evaluation_batches(load(spec), card.preprocessing, count, corrupt=corrupt)))
    return images.numpy()[weights.numpy() > 0]


def _training_split(spec: DatasetSpec) -> DatasetSpec:
    training = dataclasses.replace(spec, split="train")
    try:
        load(training)
    except ValueError:
        return spec
    return training
