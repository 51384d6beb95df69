"""The folder of a run: its files, and the checks that protect existing files."""

import csv
import dataclasses
import os
import pathlib
import shutil
from collections.abc import Sequence, Set

from keras_mixer.card import CARD_FILE, RECIPE_FILE
from keras_mixer.data.sources.folder import images_of_run, is_folder_of_run, paths_of
from keras_mixer.data.sources.layout import TRAIN, FolderLayout, load_listing, save_listing
from keras_mixer.data.trained_model import MODEL_FILE, load_card
from keras_mixer.dataset import FILES_FILE
from keras_mixer.extras import require
from keras_mixer.files import remove_partial_files, written_whole
from keras_mixer.fonts import drawable
from keras_mixer.training.recipe import Recipe, is_local, is_trained_model

RESULT_FILE, TEST_FILE, HISTORY_FILE, CURVES_FILE = "result.json", "test.json", "history.csv", "curves.png"
LOGS, CHECKPOINTS, BEST = "logs", "checkpoints", "best"
# In the order in which `--restart` deletes them.
_PARTS = (
    *(RESULT_FILE, CHECKPOINTS, BEST, LOGS, HISTORY_FILE, CURVES_FILE, TEST_FILE, MODEL_FILE, CARD_FILE, FILES_FILE),
    RECIPE_FILE,
)
COLUMNS = ("step", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds")


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """Returns the recipe with absolute local paths, so that its JSON file works in any working directory."""
    data = recipe.data
    if data.of(data.train_split).is_folder:
        data = dataclasses.replace(data, name=_absolute(data.name))
    if data.data_dir is not None:
        data = dataclasses.replace(data, data_dir=_absolute(data.data_dir))
    return dataclasses.replace(
        recipe,
        data=data,
        model=dataclasses.replace(recipe.model, weights=_absolute_if_local(recipe.model.weights)),
        distillation=dataclasses.replace(recipe.distillation, teacher=_absolute_if_local(recipe.distillation.teacher)),
    )


def _absolute(path: str) -> str:
    # URLs such as gs://bucket/datasets do not change.
    return path if "://" in path else os.path.abspath(os.path.expanduser(path))


def _absolute_if_local(source: str | None) -> str | None:
    return _absolute(source) if is_local(source) else source


def refuse_another(holder: pathlib.Path, stored: str, recipe: Recipe) -> None:
    """Raises ValueError if `stored`, the JSON in a run folder or checkpoint, differs from this run's recipe."""
    earlier = Recipe.from_json(stored)
    differing = recipe.differences(earlier)
    if differing:
        moved = f" If its images were moved, put a link to them at {earlier.data.name}." * (differing == ["data.name"])
        raise ValueError(
            f"{holder} has another recipe, which differs in {', '.join(differing)}. Choose another output folder, or "
            f"delete the earlier run with restart (--restart). To train a finished run longer, start from its model: "
            f"--weights RUN --output NEW.{moved}"
        )


def check(folder: pathlib.Path, recipe: Recipe, restart: bool) -> None:
    """Raises ValueError if the run may not write to the folder, or may not delete what is there.

    The folder may not lie in the dataset. It may not hold another recipe's run, the model that this run starts from, or
    files that are called like those of a run but belong to none.
    """
    stored = folder / RECIPE_FILE
    images = pathlib.Path(recipe.data.name)
    if not stored.exists() and recipe.data.of(TRAIN).is_folder and folder.resolve().is_relative_to(images.resolve()):
        raise ValueError(
            f"The output folder {folder} lies in the folder of images {images}, where its pictures would become images "
            f"of a class. Choose an output folder outside of it."
        )
    for start in filter(None, (recipe.model.weights, recipe.distillation.teacher)):
        if is_local(start) and _is_of_run(pathlib.Path(start), folder):
            raise ValueError(
                f"This run starts from {start} and would replace it, because its output folder is {folder}. Choose "
                f"another output folder."
            )
    if stored.exists():
        if not restart:
            refuse_another(folder, stored.read_text(encoding="utf-8"), recipe)
        return
    found = [name for name in _PARTS if (folder / name).exists()]
    if found and not list((folder / CHECKPOINTS).glob("*.safetensors")):  # a checkpoint holds the recipe too
        raise ValueError(
            f"{folder} holds {', '.join(found)} but no {RECIPE_FILE}, so no run made that, and this run would replace "
            f"it. Choose another output folder."
        )


def _is_of_run(path: pathlib.Path, folder: pathlib.Path) -> bool:
    """Returns whether a path is the run folder or a part of the run."""
    path, folder = path.resolve(), folder.resolve()
    return path == folder or any(path.is_relative_to(folder / name) for name in _PARTS)


def read_listing(folder: pathlib.Path, recipe: Recipe) -> dict | None:
    """Reads the list of files that the run in the folder began with; None if there is none for these images."""
    stored = folder / RECIPE_FILE
    if not stored.exists() or _recipe_in(stored).data.name != recipe.data.name:
        return None
    return load_listing(folder)


def images_of_start(recipe: Recipe, layout: FolderLayout) -> tuple[Set[str], Set[str]]:
    """Returns which images of a recipe's folder the run that it starts from trained on, and which that run held out."""
    weights = recipe.model.weights
    dataset = load_card(weights).dataset if is_trained_model(weights) else None
    images = images_of_run(dataset, layout)
    if dataset is None or dataset.files is None or images is None:
        return frozenset(), frozenset()
    stored = pathlib.Path(dataset.files, RECIPE_FILE)
    if not stored.is_file() or not is_folder_of_run(dataset, recipe.data.name, images):
        return frozenset(), frozenset()
    trained = frozenset(paths_of(_recipe_in(stored).data.train_split, images))
    return trained, {path for paths in images.images.values() for path in paths} - trained


def _recipe_in(file: pathlib.Path) -> Recipe:
    try:
        return Recipe.from_json(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not a recipe: {error} Correct it, or start again (--restart).") from error


def read_pipeline(folder: pathlib.Path) -> str | None:
    """Reads which pipeline the run in the folder began with; None if there is no run."""
    stored = folder / RECIPE_FILE
    if not stored.exists():
        return None
    pipeline = _recipe_in(stored).execution.pipeline
    return "host" if pipeline == "auto" else pipeline  # of before there was a choice


def claim(folder: pathlib.Path, recipe: Recipe, restart: bool, listing: dict | None = None) -> None:
    """Writes the recipe and the list of images to the folder, and removes half-written files of a killed process."""
    remove_partial_files(folder)
    if restart:
        # After an interruption, the remaining files still belong to the old recipe.
        for path in (folder / name for name in _PARTS):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    if listing is not None:
        save_listing(listing, folder)
    with written_whole(folder / RECIPE_FILE) as partial:
        partial.write_text(recipe.to_json(), encoding="utf-8")


def write_history(rows: Sequence[dict], path: str | os.PathLike) -> None:
    """Writes one row per period as CSV."""
    with written_whole(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def draw_curves(rows: Sequence[dict], path: str | os.PathLike, title: str) -> None:
    """Draws loss and accuracy over epochs, for training and evaluation, as a PNG."""
    require("matplotlib", command="pip install matplotlib", purpose="Drawing the curves")
    from matplotlib.figure import Figure  # pyplot has global state

    figure = Figure(figsize=(10, 4), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in rows]
    marker = "o" if len(rows) == 1 else None
    for axes, name, label in ((loss, "loss", "Loss"), (accuracy, "accuracy", "Accuracy")):
        axes.plot(epochs, [row[name] for row in rows], label="training", marker=marker)
        axes.plot(epochs, [row[f"val_{name}"] for row in rows], label="evaluation", marker=marker)
        axes.set(xlabel="Epoch", ylabel=label)
        axes.grid(alpha=0.3)
        axes.legend()
    (text,), families = drawable([title])
    figure.suptitle(text, family=families)
    figure.savefig(path, dpi=120)
