"""`keras-mixer train`: trains or fine-tunes a model by a recipe."""

import dataclasses
import os
from pathlib import Path

import click

from keras_mixer.cli.options import data_dir_option, max_megapixels_option, settings_option
from keras_mixer.cli.output import json_option, keep_for_json, notes_shown, show, start, start_keras

EXAMPLES = """\b
keras-mixer train --recipe digits --output runs/digits
keras-mixer train --recipe finetune --dataset ./photos --output runs/photos
keras-mixer train --recipe finetune_pets --weights imagenet21k --output runs/pets --set batch_size=128
KERAS_BACKEND=jax keras-mixer train --recipe imagenet_b16 --output /shared/runs/b16 \\\\
    --coordinator host0:12345 --processes 2 --process 0
"""


@click.command(epilog=EXAMPLES)
@click.option("--recipe", "recipe_name", required=True, help="Name of a recipe, a recipe.json, or the folder of a run.")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Folder of the run.")
@click.option("--dataset", help="TFDS name, or a folder such as ./flowers, with CLASS/IMAGE or train/CLASS/IMAGE.")
@data_dir_option
@click.option(
    "--weights",
    help="Weights to start from: a published set such as imagenet21k, a checkpoint, hf://OWNER/REPO or a run folder.",
)
@click.option("--image-size", type=int, help="Side of the square input, in pixels. Weights are adapted to it.")
@click.option("--strategy", help="Devices: auto, default, mirrored, multi_worker, tpu, data_parallel.")
@click.option("--coordinator", help="With KERAS_BACKEND=jax on several hosts: HOST:PORT of the first process.")
@click.option("--processes", type=click.IntRange(min=1), help="Number of these processes.")
@click.option("--process", type=click.IntRange(min=0), help="Number of this process, from 0.")
@max_megapixels_option(default=None)
@settings_option
@click.option("--sweep", is_flag=True, help="Train once per rate of learning_rate_grid, and list the best first.")
@click.option("--restart", is_flag=True, help="Delete what an earlier run left in the output folder.")
@click.option("--show-recipe", is_flag=True, help="Print the resolved recipe and stop.")
@json_option
def command(
    recipe_name, output, settings, sweep, restart, show_recipe, as_json, coordinator, processes, process, **shortcuts
):
    """Train or fine-tune a model by a recipe. After an interruption, run the same command again to continue."""
    recipe = _resolve(recipe_name, settings, **shortcuts)
    if show_recipe:
        start("keras")
        from keras_mixer.training.defaults import choose_splits
        from keras_mixer.training.network import find_builder

        find_builder(recipe.model)  # reports a wrong argument, as training does
        if Path(os.path.expanduser(recipe.data.name)).is_dir():
            recipe = dataclasses.replace(recipe, data=choose_splits(recipe.data))
        click.echo(recipe.to_json(), nl=False)
        return
    if output is None:
        raise click.MissingParameter(ctx=click.get_current_context(), param_hint="'--output'", param_type="option")
    start_keras()
    from keras_mixer import training
    from keras_mixer.training.devices.processes import name_place

    name_place(coordinator, processes, process)
    if as_json:
        keep_for_json()
    options = {"restart": restart, "progress": not as_json}
    with notes_shown():
        results = training.sweep(recipe, output, **options) if sweep else [training.train(recipe, output, **options)]
    show([_row(result) for result in results], title=f"Trained by {recipe.name}", as_json=as_json)


def _resolve(name: str, settings, dataset, data_dir, weights, image_size, strategy, max_pixels):
    from keras_mixer.training import recipes

    shortcuts = {
        "data.name": dataset,
        "data.data_dir": data_dir,
        "model.weights": weights,
        "preprocessing.image_size": None if image_size is None else f"[{image_size}, {image_size}]",
        "execution.strategy": strategy,
        "data.max_pixels": None if max_pixels is None else str(max_pixels),
    }
    changes = {field: value for field, value in shortcuts.items() if value is not None}
    return recipes.read(name).override(changes | settings)


def _row(result) -> dict:
    row = {"run": str(result.folder), "accuracy": result.accuracy, "loss": result.loss, "images": result.images}
    if result.test_accuracy is not None:
        row |= {"test accuracy": result.test_accuracy, "test images": result.test_images}
    row["steps"] = result.steps
    return row | {
        "parameters": result.parameters,
        "seconds": round(result.seconds, 1),
        "learning rate": result.learning_rate,
    }
