"""Images from which int8 takes the scales of its activations."""

import dataclasses

import numpy as np

from keras_mixer.data import DatasetSpec, ModelCard, evaluation_batches, load

PLACES, IMAGES_OF_A_PLACE = 20, 10


def calibration_images(card: ModelCard, dataset: DatasetSpec | None = None) -> np.ndarray:
    """Reads 200 preprocessed images, or all if there are fewer, of the training split of a model's dataset.

    They come from 20 places spread over the split, for a folder of images is sorted by class. A dataset without a
    split "train" gives them from the split it names.

    Args:
        card: The model's card.
        dataset: Another dataset than the card's.

    Returns:
        Images, float32 `(n, height, width, channels)`.

    Raises:
        ValueError: If neither names a dataset, or it cannot be opened.
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
    batches = evaluation_batches(load(spec), card.preprocessing, batch_size=PLACES * IMAGES_OF_A_PLACE)
    return next(iter(batches))[0].numpy()


def _training_split(spec: DatasetSpec) -> DatasetSpec:
    training = dataclasses.replace(spec, split="train")
    try:
        load(training)
    except ValueError:
        return spec
    return training
