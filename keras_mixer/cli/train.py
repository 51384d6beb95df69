"""`keras-mixer train`: trains or fine-tunes a model by a recipe."""

import os
import re
from pathlib import Path

import click

from keras_mixer.cli.options import data_dir_option, max_megapixels_option, settings_option
from keras_mixer.cli.output import json_option, show, start

EXAMPLES = """\b
keras-mixer train --recipe digits --output runs/digits
keras-mixer train --recipe finetune_pets --weights imagenet21k --output runs/pets --set batch_size=128
"""


@click.command(epilog=EXAMPLES)
@click.option("--recipe", "recipe_name", required=True, help="Name of a recipe, or the recipe.json of a run.")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Folder of the run.")
@click.option("--dataset", help="TFDS name, or a folder train/CLASS/IMAGE with a path separator: ./flowers.")
@data_dir_option
@click.option(
    "--weights", help="Weights to start from: a published set such as imagenet21k, a checkpoint or a run folder."
)
@click.option("--image-size", type=int, help="Side of the square input, in pixels; weights are resized to it.")
@click.option("--strategy", help="Devices: auto, default, mirrored, multi_worker, tpu, data_parallel.")
@max_megapixels_option(default=None)
@settings_option
@click.option("--sweep", is_flag=True, help="Train once per rate of learning_rate_grid, and list the best rate first.")
@click.option("--restart", is_flag=True, help="Delete what an earlier run left in the output folder.")
@click.option("--show-recipe", is_flag=True, help="Print the resolved recipe and stop.")
@json_option
def command(recipe_name, output, settings, sweep, restart, show_recipe, as_json, **shortcuts):
    """Train or fine-tune a model by a recipe; run the same command again to go on after an interruption."""
    recipe = _resolve(recipe_name, settings, **shortcuts)
    if show_recipe:
        start("keras")
        from keras_mixer.training.network import find_builder

        find_builder(recipe.model)  # reports a wrong argument, as training does
        click.echo(recipe.to_json(), nl=False)
        return
    if output is None:
        raise click.MissingParameter(ctx=click.get_current_context(), param_hint="'--output'", param_type="option")
    start("tensorflow", "keras")
    from keras_mixer import training

    options = {"restart": restart, "progress": not as_json}
    results = training.sweep(recipe, output, **options) if sweep else [training.train(recipe, output, **options)]
    show([_row(result) for result in results], title=f"Trained by {recipe.name}", as_json=as_json)


def _resolve(name: str, settings, dataset, data_dir, weights, image_size, strategy, max_pixels):
    from keras_mixer.training import recipes
    from keras_mixer.training.recipe import is_trained_model

    shortcuts = {
        "data.name": dataset,
        "data.data_dir": data_dir,
        "model.weights": weights,
        "preprocessing.image_size": None if image_size is None else f"[{image_size}, {image_size}]",
        "execution.strategy": strategy,
        "data.max_pixels": None if max_pixels is None else str(max_pixels),
    }
    changes = {field: value for field, value in shortcuts.items() if value is not None}
    recipe = recipes.read(name)
    if dataset is not None and os.sep in dataset:
        changes |= _splits(Path(dataset).expanduser(), recipe.data)
    if is_trained_model(weights):
        # It brings its own architecture, and only its rates can be changed.
        sizes = [argument for argument in recipe.model.arguments if argument not in ("stochastic_depth", "dropout")]
        changes |= {f"model.{field}": "null" for field in ("variant", "architecture", *sizes)}
    return recipe.override(changes | settings)


def _splits(folder: Path, data) -> dict[str, str]:
    """Chooses splits of a folder of images if it lacks those of the recipe."""
    found = {path.name for path in folder.iterdir() if path.is_dir()} if folder.is_dir() else set()
    named = re.findall(r"[A-Za-z_]\w*", f"{data.train_split} {data.eval_split}")
    if found.issuperset(named) or "train" not in found:
        return {}
    held_out = next((name for name in ("test", "validation", "val") if name in found), None)
    train, evaluation = ("train", held_out) if held_out else ("train[:90%]", "train[90%:]")
    return {"data.train_split": train, "data.eval_split": evaluation}


def _row(result) -> dict:
    row = {"run": str(result.folder), "accuracy": result.accuracy, "loss": result.loss, "steps": result.steps}
    if result.test_accuracy is not None:
        row["test accuracy"] = result.test_accuracy
    return row | {
        "parameters": result.parameters,
        "seconds": round(result.seconds, 1),
        "learning rate": result.learning_rate,
    }
