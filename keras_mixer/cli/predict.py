"""`keras-mixer predict`: the most likely classes of images, in a table or in parquet files, here or on a cluster."""

import os

import click

from keras_mixer.cli.output import json_option, show
from keras_mixer.cli.positive_number import PositiveNumber
from keras_mixer.cli.predict_job import JobOptions, run_job
from keras_mixer.cli.startup import start


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=click.Path())
@click.option(
    "--model", required=True, type=click.Path(exists=True), help="Run folder, .keras file or exported artefact."
)
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="Classes to show of each image.")
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Images per call.")
@click.option("--image-column", help="Column of encoded images in parquet files; by default the only one of bytes.")
@click.option("--id-column", help="Column of unique names in them; path, id or the row's number by default.")
@click.option("--output", metavar="URI", help="Folder of parquet files to write instead of a table; can be resumed.")
@click.option("--part-size", type=click.IntRange(min=1), default=1024, show_default=True, help="Images per part file.")
@click.option("--retry-errors", is_flag=True, help="Try again what an earlier run could not read.")
@click.option("--restart", is_flag=True, help="Delete the predictions that an earlier run left in the output.")
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True)
@click.option("--ray-address", help="Ray cluster; by default RAY_ADDRESS, else one is started on this machine.")
@click.option("--workers", type=click.IntRange(min=1), help="Ray workers; by default as many as fit.")
@click.option("--worker-cpus", type=PositiveNumber(), default=1.0, show_default=True)
@click.option("--worker-gpus", type=click.FloatRange(min=0), default=0.0, show_default=True)
@json_option
@click.pass_context
def command(context, images, model, output, engine, as_json, image_column, id_column, **options):
    r"""Classify images (JPEG, PNG or GIF).

    IMAGE is a file, a folder with images at any depth, a glob, or a parquet file with a column of encoded images; a
    path, or a URI such as s3://bucket/folder.

    Without --output, results are printed. An image that cannot be read gives one line on the standard error; the
    others are classified all the same, and the exit status is 2.

    With --output, each image becomes a row of path, classes, labels, scores and error. Run the same command again to
    go on after an interruption: what is done is not done again. --engine ray deals the images out to the workers of a
    Ray cluster.

    \b
    keras-mixer predict --model runs/digits digits/*.png
    keras-mixer predict --model runs/photos photos/ --output predictions/
    keras-mixer predict --model runs/photos s3://bucket/photos --output s3://bucket/predictions --engine ray
    """
    columns = {"image_column": image_column, "id_column": id_column}
    if output is not None:
        start("tensorflow", "keras")
        row = run_job(JobOptions(engine=engine, **options), images, model, output, columns)
        show([row], title=f"Predictions in {output}", as_json=as_json)
        return
    if engine == "ray" or options["restart"] or options["retry_errors"]:
        raise click.UsageError("--engine ray, --restart and --retry-errors need --output.")
    start("tensorflow", "keras")
    predictions = _predictions(images, model, columns, options["top"], options["batch_size"])
    context.exit(2 if _show(predictions, as_json) else 0)


def _show(predictions, as_json: bool) -> int:
    """Shows the best classes of each image, and returns the number of those that have none."""
    rows: list[dict] = []
    failures = 0
    try:
        for path, prediction in predictions:
            if prediction.error:
                click.echo(f"Error: {prediction.error}", err=True)
                failures += 1
                continue
            rows += [
                {"image": path if rank == 1 or as_json else "", "rank": rank, "class": name, "score": score}
                for rank, (name, score) in enumerate(zip(prediction.labels, prediction.scores, strict=True), start=1)
            ]
    finally:  # what came before an error that ends the run is shown too
        if rows:
            show(rows, as_json=as_json)
    if as_json and not rows:
        show([], as_json=True)
    return failures


def _predictions(images, model, columns, top, batch_size):
    """The name of each image, as it was given where that is the name of a file, with its prediction, in order."""
    from keras_mixer.evaluation import open_classifier
    from keras_mixer.prediction import Prediction, classify, find_images

    predictor, card = open_classifier(model)
    found: dict[str, list] = {}
    errors: dict[str, str] = {}
    for argument in images:
        try:
            found[argument] = find_images([argument], **columns)
        except (ValueError, OSError) as error:
            errors[argument] = str(error)
    shards = [shard for argument in images for shard in found.get(argument, ())]
    predictions = classify(predictor, card, shards, top=top, batch_size=batch_size)
    for argument in images:
        if argument in errors:
            yield argument, Prediction(argument, error=errors[argument])
            continue
        for name in (name for shard in found[argument] for name in shard.names):
            itself = os.path.abspath(os.path.expanduser(argument)) == name
            yield argument if itself else name, next(predictions)
