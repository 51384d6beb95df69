"""What a run leaves in its folder, and whose the folder is."""

import pathlib
import shutil

import keras

from keras_mixer.data.card import CARD_FILE, MODEL_FILE
from keras_mixer.files import remove_partial_files, written_whole
from keras_mixer.training.history import write_csv
from keras_mixer.training.recipe import Recipe

RECIPE_FILE = "recipe.json"
HISTORY_FILE, CURVES_FILE, LOGS, CHECKPOINTS = "history.csv", "curves.png", "logs", "checkpoints"


def refuse_another(folder: pathlib.Path, recipe: Recipe) -> None:
    """Raises ValueError if the folder holds the run of another recipe."""
    recipe_file = folder / RECIPE_FILE
    if recipe_file.exists():
        other = Recipe.from_json(recipe_file.read_text(encoding="utf-8"))
        differing = recipe.differences(other)
        if differing:
            raise ValueError(
                f"{folder} holds the run of another recipe, which differs in {', '.join(differing)}. Choose another "
                f"output folder, or delete that run with restart (--restart)."
            )


def claim(folder: pathlib.Path, recipe: Recipe, restart: bool) -> None:
    """Makes the folder this recipe's; what a killed process left half-written in it goes."""
    remove_partial_files(folder)
    if restart:
        for name in (RECIPE_FILE, MODEL_FILE, CARD_FILE, HISTORY_FILE, CURVES_FILE):
            (folder / name).unlink(missing_ok=True)
        for name in (LOGS, CHECKPOINTS):
            shutil.rmtree(folder / name, ignore_errors=True)
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
