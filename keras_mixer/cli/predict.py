"""`keras-mixer predict`: the most likely classes of images, as a table or in files, on this machine or a cluster."""

import collections
import contextlib
import os
import sys
import time
from collections.abc import Iterable, Sequence
from types import SimpleNamespace

import click

from keras_mixer.cli.options import (
    EngineName,
    Opened,
    PositiveNumber,
    max_megapixels_option,
    open_classifier,
    precision_option,
    weights_option,
)
from keras_mixer.cli.output import json_option, show

MAX_CLASSES_SHOWN = 20
PLACES = ("local", "ray")
EXAMPLES = """\b
keras-mixer predict --model runs/digits digits/*.png
keras-mixer predict --model runs/photos photos/ --output predictions.csv
keras-mixer predict --model runs/photos photos/ --engine auto --precision bfloat16
keras-mixer predict --model runs/photos s3://bucket/photos --output s3://bucket/predictions --run-on ray
"""


@click.command(epilog=EXAMPLES)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=click.Path())
@click.option(
    "--model", required=True, help="Run folder, .keras file, exported artefact, or name of a variant such as mixer_b16."
)
@weights_option
@click.option("--top", type=click.IntRange(min=1), default=5, help="Classes to show for each image.")
@click.option("--batch-size", type=click.IntRange(min=1), default=32, help="Images per call.")
@max_megapixels_option()
@click.option("--image-column", help="Column of encoded images in parquet files; by default the only column of bytes.")
@click.option("--id-column", help="Column of unique names in parquet files; by default path, id or the row's number.")
@click.option(
    "--output",
    metavar="URI",
    help="File to write instead of a table, .csv or .jsonl, or a folder for parquet files; the job can be resumed.",
)
@click.option("--part-size", type=click.IntRange(min=1), default=1024, help="Images per part file.")
@click.option("--retry-errors", is_flag=True, help="Try the images again that an earlier run could not read.")
@click.option("--restart", is_flag=True, help="Delete the predictions that an earlier run left in the output.")
@click.option(
    "--engine",
    type=EngineName(*PLACES),  # where 0.1 expected a place
    help="What computes the scores; auto measures once which is the fastest. By default Keras, or the runtime of an "
    "exported file.",
)
@precision_option
@click.option("--run-on", type=click.Choice(PLACES), help="Where the job runs; by default local.")
@click.option("--ray-address", help="Ray cluster; by default RAY_ADDRESS, or a new cluster on this machine.")
@click.option("--workers", type=click.IntRange(min=1), help="Ray workers; by default as many as fit.")
@click.option("--worker-cpus", type=PositiveNumber(), default=1.0, help="CPUs of each Ray worker.")
@click.option(
    "--worker-gpus", type=click.FloatRange(min=0), default=0.0, help="GPUs of each Ray worker; may be a fraction."
)
@json_option
@click.pass_context
def command(context, images, model, output, engine, run_on, as_json, image_column, id_column, **options):
    """Classify images: JPEG, PNG, GIF, BMP, WebP, TIFF, JPEG 2000, AVIF or HEIC.

    IMAGE is a file, a folder with images at any depth, a glob, or a parquet file with a column of encoded images. It is
    a path, or a URI such as s3://bucket/folder.

    Without --output, the results are printed. If an image cannot be read, one line on standard error says so and the
    exit status is 2. The other images are still classified.

    With --output, each image becomes a row with path, classes, labels, scores and error. After an interruption, run the
    same command again: it predicts only the missing images. --run-on ray divides the images among the workers of a Ray
    cluster, which write a folder.
    """
    if engine in PLACES:
        if run_on not in (None, engine):
            raise click.UsageError(f"--engine {engine} is the old form of --run-on {engine}: give only --run-on.")
        engine, run_on = None, engine
    columns = {"image_column": image_column, "id_column": id_column}
    if output is not None:
        chosen = SimpleNamespace(engine=engine, run_on=run_on, **options)
        row, best = _run_job(chosen, images, model, output, columns)
        show([{**row, "classes": best} if as_json else row], title=f"Predictions in {output}", as_json=as_json)
        if not as_json:
            _show_best(best)
        return
    if run_on == "ray" or options["restart"] or options["retry_errors"]:
        raise click.UsageError("--run-on ray, --restart and --retry-errors need --output.")
    opened = open_classifier(model, options["weights"], engine, options["precision"], options["batch_size"])
    reading = {name: options[name] for name in ("top", "batch_size", "max_pixels")}
    predictions = _predictions(images, opened, columns, **reading)
    context.exit(2 if _show(predictions, as_json) else 0)


def _show_best(best: dict[str, int]) -> None:
    """Shows for each class how many images have it as their best class."""
    total = sum(best.values())
    rows = [{"best class": name, "images": count, "%": 100 * count / total} for name, count in best.items()]
    hidden = len(rows) - MAX_CLASSES_SHOWN
    show(rows[:MAX_CLASSES_SHOWN], title=f"The most frequent of {len(rows):,} classes" if hidden > 0 else None)


def _show(predictions, as_json: bool) -> int:
    """Shows the best classes of each image, and a summary; returns the number of unreadable images."""
    rows: list[dict] = []
    best: collections.Counter[str] = collections.Counter()
    failures = 0
    try:
        for path, prediction in predictions:
            if prediction.error:
                click.echo(f"Error: {prediction.error}", err=True)
                failures += 1
                continue
            best[prediction.labels[0]] += 1
            rows += [
                {"image": path if rank == 1 or as_json else "", "rank": rank, "class": name, "score": score}
                for rank, (name, score) in enumerate(zip(prediction.labels, prediction.scores, strict=True), start=1)
            ]
    finally:  # an error must not hide the results before it
        if rows:
            show(rows, as_json=as_json)
    if not as_json and best.total() > 1:
        _show_best(dict(best.most_common()))
    if as_json and not rows:
        show([], as_json=True)
    return failures


def _predictions(images, opened: Opened, columns, **reading):
    """Yields the name of each image and its prediction, in order; the name of a file is as given."""
    from keras_mixer.prediction import Prediction, classify, find_images

    found: dict[str, list] = {}
    errors: dict[str, str] = {}
    for argument in images:
        try:
            found[argument] = find_images([argument], **columns)
        except (ValueError, OSError) as error:
            errors[argument] = str(error)
    shards = [shard for argument in images for shard in found.get(argument, ())]
    predictions = classify(opened.predictor, opened.card, shards, **reading)
    for argument in images:
        if argument in errors:
            yield argument, Prediction(argument, error=errors[argument])
            continue
        for name in (name for shard in found[argument] for name in shard.names):
            itself = os.path.abspath(os.path.expanduser(argument)) == name
            yield argument if itself else name, next(predictions)


def _run_job(options, images: Sequence[str], model: str, output: str, columns: dict) -> tuple[dict, dict[str, int]]:
    """Predicts the images that are missing in the output. Returns a row of counts, and the counts of each class."""
    from keras_mixer.artefacts import load_card
    from keras_mixer.prediction import (
        PredictionStore,
        PredictionTable,
        find_images,
        fingerprint,
        is_table,
        left_over,
        names_by_table,
    )

    as_table = is_table(output)
    if as_table and options.run_on == "ray":
        raise ValueError(f"--run-on ray writes a folder of parquet files, and not the file {output}.")
    opened = None
    if options.run_on == "ray":
        _check_for_ray(options)
        load_card(model)  # opening it would take this machine's GPU memory from the workers
        digest = fingerprint(model)
    else:
        opened = open_classifier(model, options.weights, options.engine, options.precision, options.batch_size)
        digest = opened.digest
    if as_table and opened is not None:  # no empty columns
        options.top = min(options.top, len(opened.card.class_names))
    store = PredictionTable(output) if as_table else PredictionStore(output)
    shards = find_images(images, leave_out=store.location, **columns)
    made_by = {"format": 1, "model": digest, "top": options.top, **columns}
    store.open(made_by, restart=options.restart)
    store.admit(names_by_table(shards))  # before rows of errors are deleted, because their names count too
    if options.retry_errors:
        store.forget_errors()
    left = left_over(shards, store.done())
    total = sum(len(shard.names) for shard in shards)
    missing = sum(len(shard.names) for shard in left)
    began = time.monotonic()
    if left:
        # Standard output is for the result, but Ray prints notices there, such as the death of a worker.
        with contextlib.redirect_stdout(sys.stderr):
            _watch(_parts(options, store, left, model, opened), missing)
    seconds = time.monotonic() - began
    lost = sum(len(shard.names) for shard in left_over(shards, store.done()))
    if lost:
        raise RuntimeError(f"{lost:,} of {total:,} images have no prediction; run the same command again.")
    repeated = store.repeated()
    if repeated:
        raise RuntimeError(
            f"{len(repeated):,} images have more than one row in {output}, among them {repeated[0]}: several runs "
            f"wrote there at the same time. Run the same command again, alone, with --restart."
        )
    rows, errors = store.counts()
    row = {
        "images": total,
        "predicted now": missing,
        "rows in the output": rows,
        "of them unreadable": errors,
        "seconds": round(seconds, 1),
        "images/s": round(missing / seconds, 1) if missing else None,
    }
    return row, store.best()


def _check_for_ray(options) -> None:
    if options.engine is not None or options.precision != "float32" or options.weights is not None:
        raise ValueError(
            "--run-on ray opens the model as it is on each worker, so it takes neither --engine nor --precision nor "
            "--weights: export the model to the format that you want the workers to run."
        )


def _parts(options, store, shards, model: str, opened: Opened | None):
    from keras_mixer.prediction import Job, RayWorkers, packed, predict_on_ray, predict_to_store

    job = Job(store, options.top, options.batch_size, options.part_size, options.max_pixels)
    if opened is None:
        workers = RayWorkers(options.workers, options.worker_cpus, options.worker_gpus)
        return predict_on_ray(job, packed(model), shards, workers, address=options.ray_address)
    return predict_to_store(job, opened.predictor, opened.card, shards)


def _watch(parts: Iterable, total: int) -> None:
    """Consumes parts as they are completed, and shows the counts and the rate on standard error."""
    from keras_mixer.progress import Progress

    began = time.monotonic()
    done = errors = 0
    workers: set = set()

    def note() -> str:
        rate = done / max(time.monotonic() - began, 1e-9)
        return f"{rate:,.1f} images/s  {errors:,} unreadable  workers: {len(workers)}"

    with Progress("Predicting", total, "images") as bar:
        for part in parts:
            done, errors = done + part.images, errors + part.errors
            workers.add(part.worker)
            bar.update(done, note)
