"""Saves and loads a trained model: the Keras file and its card."""

import os
import pathlib

import keras

from keras_mixer.card import CARD_FILE, ModelCard, check_ended
from keras_mixer.files import written_whole

MODEL_FILE = "model.keras"


def save_model(model: keras.Model, card: ModelCard, folder: str | os.PathLike) -> None:
    """Writes a model and its card to a run folder for `load_model`. Each file is written atomically."""
    with written_whole(pathlib.Path(folder) / MODEL_FILE) as partial:
        model.save(partial)
    card.save(pathlib.Path(folder) / CARD_FILE)


def load_model(path: str | os.PathLike) -> tuple[keras.Model, ModelCard]:
    """Loads a trained model and its card.

    Args:
        path: A run folder with `model.keras` and `model.json`, or a `.keras` file with its card beside it
            (`name.json` for `name.keras`).

    Raises:
        ValueError: If the model or its card is missing or unreadable, or if the two do not match.

    Example:
        >>> model, card = keras_mixer.data.load_model("runs/digits")
        >>> card.class_names[int(model.predict(images).argmax())]
    """
    model_path, card_path = _files(path)
    card = ModelCard.load(card_path)
    try:
        model = keras.models.load_model(model_path, compile=False)
    except Exception as error:  # a damaged file can raise any type of error in zipfile, h5py or a layer
        raise ValueError(f"{model_path} cannot be read as a Keras model: {error}") from error
    shape, outputs = tuple(model.input_shape[1:]), model.output_shape[-1]
    expected = (card.preprocessing.input_shape, len(card.class_names))
    if (shape, outputs) != expected:
        raise ValueError(
            f"{model_path} does not fit its card: the model maps {shape} to {outputs} classes, the card says "
            f"{expected[0]} and {expected[1]}."
        )
    return model, card


def load_card(path: str | os.PathLike) -> ModelCard:
    """Loads only the card of a trained model; raises ValueError if one of its two files is missing."""
    return ModelCard.load(_files(path)[1])


def _files(path: str | os.PathLike) -> tuple[pathlib.Path, pathlib.Path]:
    """Returns the files of a trained model and of its card."""
    given = pathlib.Path(os.path.expanduser(path))
    model_path = given / MODEL_FILE if given.is_dir() else given
    if model_path.suffix != ".keras":
        raise ValueError(
            f"A model is a run folder with {MODEL_FILE}, or a .keras file, but got {given}"
            f"{'' if given.exists() else ', which does not exist'}."
        )
    card_path = model_path.with_suffix(".json")
    if given.is_dir() and not model_path.exists():
        check_ended(given)
    for expected in (model_path, card_path):
        if not expected.is_file():
            raise ValueError(f"{expected} does not exist. A model is a .keras file with its card (.json) beside it.")
    return model_path, card_path
