"""The recipes by name. Every public function of the files in this folder is a recipe."""

import importlib
import inspect
import os
import pathlib
import pkgutil
from collections.abc import Callable

from keras_mixer.training.recipe import Recipe

RECIPES: dict[str, Callable[[], Recipe]] = {
    name: function
    for module in pkgutil.iter_modules(__path__, f"{__name__}.")
    for name, function in vars(importlib.import_module(module.name)).items()
    if inspect.isfunction(function) and function.__module__ == module.name and not name.startswith("_")
}


def get(name: str) -> Recipe:
    """Returns the recipe called `name`.

    Raises:
        ValueError: If there is no such recipe; the message lists the known names.

    Example:
        >>> keras_mixer.training.recipes.get("imagenet_b16").optimizer.weight_decay
        0.1
    """
    if name not in RECIPES:
        raise ValueError(
            f"Unknown recipe {name!r}. Known recipes: {', '.join(RECIPES)}. A path to a recipe.json also works."
        )
    return RECIPES[name]()


def read(name: str) -> Recipe:
    """Returns the recipe called `name`, or the one in the file `name`, such as "runs/digits/recipe.json".

    Raises:
        ValueError: If there is no such recipe, or the file is not a recipe.
        OSError: If the file cannot be read.
    """
    if not (name.endswith(".json") or os.sep in name):
        return get(name)
    try:
        return Recipe.from_json(pathlib.Path(name).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{name} is not a recipe: {error}") from error
