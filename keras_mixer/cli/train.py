"""`keras-mixer train`: trains or fine-tunes a model by a recipe."""

import os
import re
from pathlib import Path

import click

from keras_mixer.cli.output import json_option, show
from keras_mixer.cli.startup import start


@click.command()
@click.option("--recipe", "recipe_name", required=True, help="Name of a recipe, or the recipe.json of a run.")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Folder of the run.")
@click.option("--dataset", help="TFDS name, or a folder train/CLASS/IMAGE with a path separator: ./flowers.")
@click.option("--data-dir", help="Where TFDS finds and keeps its datasets.")
@click.option("--weights", help="Where to start: a published set such as imagenet21k, a checkpoint or a run folder.")
@click.option("--image-size", type=int, help="Side of the square input, in pixels; weights are taken to it.")
@click.option("--strategy", help="Devices: auto, default, mirrored, multi_worker, tpu, data_parallel.")
@click.option(
    "--set", "settings", multiple=True, metavar="FIELD=VALUE", help="Any field: optimizer.learning_rate=0.01."
)
@click.option("--sweep", is_flag=True, help="Train once per rate of learning_rate_grid and name the best.")
@click.option("--restart", is_flag=True, help="Delete what an earlier run left in the output folder.")
@click.option("--show-recipe", is_flag=True, help="Print the resolved recipe and stop.")
@json_option
def command(recipe_name, output, settings, sweep, restart, show_recipe, as_json, **shortcuts):
    r"""Train or fine-tune a model by a recipe; run the same command again to go on after an interruption.

    \b
    keras-mixer train --recipe digits --output runs/digits
    keras-mixer train --recipe finetune_pets --weights imagenet21k --output runs/pets --set batch_size=128
    """
    recipe = _resolve(recipe_name, settings, **shortcuts)
    if show_recipe:
        click.echo(recipe.to_json(), nl=False)
        return
    if output is None:
        raise click.MissingParameter(ctx=click.get_current_context(), param_hint="'--output'", param_type="option")
    start("tensorflow", "keras")
    from keras_mixer.training import train
    from keras_mixer.training.sweep import sweep as train_each

    options = {"restart": restart, "progress": not as_json}
    results = train_each(recipe, output, **options) if sweep else [train(recipe, output, **options)]
    show([_row(result) for result in results], title=f"Trained by {recipe.name}", as_json=as_json)


def read_recipe(name: str):
    """Returns the recipe called `name`, or that of a recipe.json."""
    from keras_mixer.training import recipes
    from keras_mixer.training.recipe import Recipe

    if name.endswith(".json") or os.sep in name:
        try:
            return Recipe.from_json(Path(name).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{name} is not a recipe: {error}") from error
    return recipes.get(name)


def parse_settings(settings) -> dict[str, str]:
    """Splits FIELD=VALUE settings."""
    for setting in settings:
        if "=" not in setting:
            raise ValueError(f"--set takes FIELD=VALUE, but got {setting!r}.")
    return dict(setting.split("=", 1) for setting in settings)


def _resolve(name: str, settings, dataset, data_dir, weights, image_size, strategy):
    from keras_mixer.training.recipe import is_trained_model

    shortcuts = {
        "data.dataset": dataset,
        "data.data_dir": data_dir,
        "model.weights": weights,
        "model.image_size": None if image_size is None else f"[{image_size}, {image_size}]",
        "execution.strategy": strategy,
    }
    changes = {field: value for field, value in shortcuts.items() if value is not None}
    recipe = read_recipe(name)
    if dataset is not None and os.sep in dataset:
        changes |= _splits(Path(dataset).expanduser(), recipe.data)
    if is_trained_model(weights):
        # It brings its own architecture.
        names = ("variant", "num_blocks", "patch_size", "hidden_dim", "tokens_mlp_dim", "channels_mlp_dim")
        changes |= {f"model.{name}": "null" for name in names}
    return recipe.override(changes | parse_settings(settings))


def _splits(folder: Path, data) -> dict[str, str]:
    """Splits of a folder of images that lacks those of the recipe, which are another dataset's."""
    found = {path.name for path in folder.iterdir() if path.is_dir()} if folder.is_dir() else set()
    named = re.findall(r"[A-Za-z_]\w*", f"{data.train_split} {data.eval_split}")
    if found.issuperset(named) or "train" not in found:
        return {}
    held_out = next((name for name in ("test", "validation", "val") if name in found), None)
    train, evaluation = ("train", held_out) if held_out else ("train[:90%]", "train[90%:]")
    return {"data.train_split": train, "data.eval_split": evaluation}


def _row(result) -> dict:
    return {
        "run": str(result.folder),
        "accuracy": result.accuracy,
        "loss": result.loss,
        "steps": result.steps,
        "parameters": result.parameters,
        "seconds": round(result.seconds, 1),
        "learning rate": result.learning_rate,
    }
