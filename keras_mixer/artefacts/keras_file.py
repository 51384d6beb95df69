"""A Keras model on disk, as training leaves it: a `.keras` file with its card beside it."""

import pathlib

from keras_mixer.artefacts.predictor import Scores, keras_predictor
from keras_mixer.artefacts.record import Format


def _write(model, path: pathlib.Path, card, _samples) -> pathlib.Path:
    from keras_mixer.data import save_model

    save_model(model, card, path.parent)
    return path


def _open(path: pathlib.Path, _threads: int | None) -> Scores:
    from keras_mixer.data import load_model

    return keras_predictor(load_model(path)[0]).scores


KERAS_FILE = Format("keras", "model.keras", _write, _open, card="{stem}.json")
