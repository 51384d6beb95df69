"""The recipes by name. Each is a table of a TOML file in this folder. The table `[all]` of a file applies to all."""

import os
import pathlib
import tomllib

from keras_mixer.card import RECIPE_FILE
from keras_mixer.fields import read as read_fields
from keras_mixer.training.recipe import Recipe

RECIPES: dict[str, Recipe] = {}
NOTES: dict[str, dict[str, str]] = {}  # by name: the `expected` result, its source, and the `hardware`


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
            f"Unknown recipe {name!r}. Known recipes: {', '.join(RECIPES)}. The path of a recipe.json or of a run "
            f"also works."
        )
    return RECIPES[name]


def read(name: str) -> Recipe:
    """Returns the recipe called `name`, or that of the run folder or file `name`, such as "runs/digits/recipe.json".

    Raises:
        ValueError: If there is no such recipe, or the file is not a recipe.
        OSError: If the file cannot be read.
    """
    path = pathlib.Path(os.path.expanduser(name))
    if name in RECIPES or not (name.endswith(".json") or os.sep in name or (path / RECIPE_FILE).is_file()):
        return get(name)
    try:
        return Recipe.from_json((path / RECIPE_FILE if path.is_dir() else path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{name} is not a recipe: {error}") from error


def _merged(shared: dict, own: dict) -> dict:
    return shared | {
        key: _merged(shared.get(key, {}), value) if isinstance(value, dict) else value for key, value in own.items()
    }


def _load(page: pathlib.Path) -> None:
    tables = tomllib.loads(page.read_text(encoding="utf-8"))
    shared = tables.pop("all")
    for name, own in tables.items():
        fields = _merged(shared, own)
        NOTES[name] = {key: fields.pop(key) for key in ("expected", "hardware")}
        RECIPES[name] = read_fields(Recipe, {"name": name, **fields})


for _page in sorted(pathlib.Path(__file__).parent.glob("*.toml")):
    _load(_page)
