"""Between the pixels of a picture and what a model was fed: each model has a scale of its own."""

from typing import Protocol

import numpy as np


class Preprocessing(Protocol):
    """How a model wants its images, on whatever else it says: `(pixels in [0, 1] - mean) / std`.

    `keras_mixer.data.Preprocessing`, of a trained model's card, is one, and `model.preprocessing`, which the
    constructors set, another.
    """

    @property
    def mean(self) -> float | tuple[float, ...]:
        """One number, or one per channel."""

    @property
    def std(self) -> float | tuple[float, ...]:
        """Likewise."""


def displayable(images: np.ndarray, preprocessing: Preprocessing | None) -> np.ndarray:
    """Takes a model's inputs back to pixels.

    Args:
        images: `(..., channels)`, preprocessed.
        preprocessing: Of the model; None for inputs in [-1, 1].

    Returns:
        float64 of the same shape in [0, 1].

    Raises:
        ValueError: If `preprocessing` is for another number of channels.
    """
    mean, std = _mean_and_std(images.shape[-1], preprocessing)
    return np.clip(np.asarray(images, "float64") * std + mean, 0.0, 1.0)


def mid_grey(channels: int, preprocessing: Preprocessing | None) -> np.ndarray:
    """Returns what a model is fed for a pixel half way between black and white, one number or `(channels,)`.

    Raises:
        ValueError: If `preprocessing` is for another number of channels.
    """
    mean, std = _mean_and_std(channels, preprocessing)
    return (0.5 - mean) / std


def _mean_and_std(channels: int, preprocessing: Preprocessing | None) -> tuple[np.ndarray, np.ndarray]:
    mean, std = (preprocessing.mean, preprocessing.std) if preprocessing else (0.5, 0.5)
    values = np.asarray(mean, "float64"), np.asarray(std, "float64")
    if any(value.shape not in ((), (channels,)) for value in values):
        raise ValueError(
            f"`preprocessing` has one mean and deviation for each of its channels, mean {mean} and std {std}, but the "
            f"images have {channels} channels. Give that of the model which the images were made for."
        )
    return values
