"""What a run leaves in its folder, and whose the folder is."""

import dataclasses
import os
import pathlib
import shutil

import keras

from keras_mixer.card import CARD_FILE
from keras_mixer.data import DatasetSpec
from keras_mixer.data.trained_model import MODEL_FILE
from keras_mixer.files import remove_partial_files, written_whole
from keras_mixer.training.history import write_csv
from keras_mixer.training.recipe import Recipe, is_trained_model
from keras_mixer.weights.loading import is_path

RECIPE_FILE = "recipe.json"
HISTORY_FILE, CURVES_FILE, LOGS, CHECKPOINTS = "history.csv", "curves.png", "logs", "checkpoints"


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """Returns the recipe with its local paths made absolute, so that its file serves in any working directory."""
    data, weights = recipe.data, recipe.model.weights
    if DatasetSpec(data.dataset).is_folder:
        data = dataclasses.replace(data, dataset=_absolute(data.dataset))
    if data.data_dir is not None:
        data = dataclasses.replace(data, data_dir=_absolute(data.data_dir))
    if weights is not None and (is_path(weights) or is_trained_model(weights)):
        weights = _absolute(weights)
    return dataclasses.replace(recipe, data=data, model=dataclasses.replace(recipe.model, weights=weights))


def _absolute(path: str) -> str:
    # A URL, such as gs://bucket/datasets, is of no directory.
    return path if "://" in path else os.path.abspath(os.path.expanduser(path))


def refuse_another(holder: pathlib.Path, stored: str, recipe: Recipe) -> None:
    """Raises ValueError if what a run left is of another recipe.

    Args:
        holder: A run folder or a checkpoint.
        stored: The recipe there, as JSON.
        recipe: This run's.
    """
    differing = recipe.differences(Recipe.from_json(stored))
    if differing:
        raise ValueError(
            f"{holder} is of another recipe, which differs in {', '.join(differing)}. Choose another output "
            f"folder, or delete what is there with restart (--restart)."
        )


def refuse_foreign_model(folder: pathlib.Path) -> None:
    """Raises ValueError if a folder without a recipe has a model: no run left it, and this one would replace it."""
    if (folder / MODEL_FILE).exists():
        raise ValueError(
            f"{folder} holds a {MODEL_FILE} and no {RECIPE_FILE}: it is not of a run, and would be replaced. Choose "
            f"another output folder, or delete what is there with restart (--restart)."
        )


def claim(folder: pathlib.Path, recipe: Recipe, restart: bool) -> None:
    """Makes the folder this recipe's; what a killed process left half-written in it goes."""
    remove_partial_files(folder)
    if restart:
        # Checkpoints first and the recipe last: whenever this is cut short, what is left is still the old recipe's.
        for name in (CHECKPOINTS, LOGS):
            if (folder / name).exists():
                shutil.rmtree(folder / name)
        for name in (HISTORY_FILE, CURVES_FILE, MODEL_FILE, CARD_FILE, RECIPE_FILE):
            (folder / name).unlink(missing_ok=True)
    with written_whole(folder / RECIPE_FILE) as partial:
        partial.write_text(recipe.to_json(), encoding="utf-8")


class History(keras.callbacks.Callback):
    """Writes the history after each period."""

    def __init__(self, rows: list[dict], path: pathlib.Path):
        super().__init__()
        self._rows = rows
        self._path = path

    def on_epoch_end(self, epoch, logs=None):
        write_csv(self._rows, self._path)
