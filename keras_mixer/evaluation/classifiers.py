"""A trained classifier found on disk in any of its forms, with the card that says what its scores mean."""

import os
import pathlib

from keras_mixer.card import CARD_FILE
from keras_mixer.data import ModelCard, load_model
from keras_mixer.data.trained_model import MODEL_FILE
from keras_mixer.evaluation.predictors import Predictor, keras_predictor, newest_version, open_artefact

_FILES = (".keras", ".tflite", ".onnx", ".xml")


def open_classifier(path: str | os.PathLike, *, threads: int | None = None) -> tuple[Predictor, ModelCard]:
    """Opens a run folder, a `.keras` file, or anything that `keras-mixer export` wrote.

    Args:
        path: A run folder or `.keras` file with its card; a SavedModel with its card among the assets, or a folder of
            its versions; a `.tflite`, `.onnx` or `.xml` file with `model.json` beside it.
        threads: CPU threads of the runtime; None for its own choice.

    Returns:
        The classifier and its card.

    Raises:
        ValueError: If there is no model or no card there, saying what was expected.
        ImportError: If the runtime is not installed.
    """
    path = pathlib.Path(path).expanduser()
    if path.suffix == ".keras" or (path / MODEL_FILE).is_file():
        model, card = load_model(path)
        return keras_predictor(model), card
    if not path.exists() or (path.is_file() and path.suffix not in _FILES):
        state = "is not a model" if path.exists() else "does not exist"
        raise ValueError(
            f"{path} {state}: expected a run folder, a SavedModel folder or a file in {', '.join(_FILES)}."
        )
    if path.is_dir():
        try:
            path = newest_version(path)
        except ValueError as error:
            raise ValueError(f"{error} A run folder would hold {MODEL_FILE}.") from error
    predictor = open_artefact(path, threads=threads)
    card_path = path / "assets" / CARD_FILE if path.is_dir() else path.with_name(CARD_FILE)
    if not card_path.is_file():
        raise ValueError(f"{path} has no card: expected {card_path}, as `keras-mixer export` writes it.")
    card, beside = ModelCard.load(card_path), path.parent / CARD_FILE
    if path.is_dir() and beside.is_file():
        # Where the model was exported, the card beside its versions knows the folder of its dataset too.
        whole = ModelCard.load(beside)
        card = whole if whole.for_others() == card else card
    return predictor, card
