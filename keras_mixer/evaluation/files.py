"""Predictions for image files."""

import os
import pathlib

import numpy as np
import tensorflow as tf

from keras_mixer.data import ModelCard
from keras_mixer.evaluation.predictors import Predictor


def predict_file(
    predictor: Predictor, card: ModelCard, path: str | os.PathLike, top: int = 5
) -> list[tuple[str, float]]:
    """Classifies one image file.

    Args:
        predictor: The classifier.
        card: Its class names and preprocessing.
        path: A JPEG or PNG file of any size.
        top: How many classes to return.

    Returns:
        Class names with their scores, best first; fewer than `top` if there are fewer classes.

    Raises:
        ValueError: If the file is no image that can be decoded.
        OSError: If it cannot be read.
    """
    encoded = pathlib.Path(path).expanduser().read_bytes()
    try:
        image = card.preprocessing(tf.constant(encoded))
    except tf.errors.OpError as error:
        raise ValueError(f"{path} is not a readable JPEG or PNG image ({len(encoded):,} bytes).") from error
    scores = predictor.scores(image.numpy()[None])[0]
    return [(card.class_names[index], float(scores[index])) for index in np.argsort(-scores, kind="stable")[:top]]
