"""`keras-mixer tpu-check`: compiles a training step for a TPU, without a TPU."""

import dataclasses

import click

from keras_mixer.cli.options import settings_option
from keras_mixer.cli.output import json_option, show

EXAMPLE = "Example: keras-mixer tpu-check --model mixer_b16 --topology v5e:2x4 --batch 1024"


@click.command(epilog=EXAMPLE)
@click.option("--recipe", "recipe_name", default="imagenet_b16", help="Recipe whose training step is compiled.")
@click.option("--model", "variant", help="Variant instead of the recipe's, such as mixer_l16.")
@click.option("--topology", required=True, help="Chips and their arrangement: v5e:2x4, v6e:2x2, v5p:2x2x1, ...")
@click.option("--batch", type=click.IntRange(1), help="Batch size over all chips; by default the recipe's.")
@click.option("--classes", type=click.IntRange(1), default=1000, help="Classes of the head.")
@click.option(
    "--backend",
    type=click.Choice(["jax", "tensorflow"]),
    default="jax",
    help="jax compiles the step over all chips; tensorflow that of one replica, with one chip's share of the batch and "
    "without the all-reduce of the gradients.",
)
@settings_option
@click.option(
    "--largest/--no-largest", default=True, help="Search for the largest batch that fits. This compiles several times."
)
@json_option
def command(recipe_name, variant, topology, batch, classes, backend, settings, largest, as_json):
    """Compile a training step for a TPU, and show memory per chip, FLOPs, and the largest batch that fits."""
    from keras_mixer.training import recipes
    from keras_mixer.training.devices.tpu_check import largest_batch, tpu_check

    changes = {"model.variant": variant, "batch_size": None if batch is None else str(batch)}
    changes = {field: value for field, value in changes.items() if value is not None}
    recipe = recipes.read(recipe_name).override(settings | changes)
    done = {}

    def check(asked):
        if asked.batch_size not in done:
            click.echo(f"Compiling for a batch of {asked.batch_size} on {topology} ...", err=True)
            done[asked.batch_size] = tpu_check(asked, topology, classes, backend)
        return done[asked.batch_size]

    check(recipe)
    if largest:
        largest_batch(recipe, check)
    results = [result for _, result in sorted(done.items())]
    rows = [dataclasses.asdict(result) if as_json else _row(result) for result in results]
    show(rows, title=_title(recipe, done, topology), as_json=as_json)
    if not as_json and not any(result.fits for result in results):
        click.echo(done[recipe.batch_size].message)


def _row(result) -> dict:
    def rounded(value, unit, digits):
        return None if value is None else round(value / unit, digits)

    return {
        "batch": result.batch_size,
        "fits": "yes" if result.fits else "no",
        "state GB": rounded(result.argument_bytes, 1e9, 3),
        "step GB": rounded(result.temporary_bytes, 1e9, 3),
        "GFLOP": rounded(result.flops, 1e9, 1),
        "all-reduces": result.all_reduces,
        "compiled in s": round(result.compile_seconds, 1),
    }


def _title(recipe, done, topology: str) -> str:
    asked = done[recipe.batch_size]
    fitting = max((batch for batch, result in done.items() if result.fits), default="none")
    failing = min((batch for batch, result in done.items() if not result.fits), default=None)
    one = " of one TensorFlow replica, without the all-reduce of gradients" if asked.backend != "jax" else ""
    return (
        f"{recipe.model.variant or recipe.name}, one training step{one}, on {topology} ({asked.chips} chips), per "
        f"chip; compiled, not run. Largest batch tried that fits: {fitting}"
        f"{f'; smallest that does not: {failing}' if failing else ''}"
    )
