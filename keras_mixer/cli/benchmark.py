"""`keras-mixer benchmark`: speed and cost of a model, beside what the papers report."""

import click

from keras_mixer.cli.figures import figures
from keras_mixer.cli.growth import growth_to_picture
from keras_mixer.cli.model_argument import model_help, open_model, weights_option
from keras_mixer.cli.output import json_option, show
from keras_mixer.cli.picture_file import PictureFile
from keras_mixer.cli.startup import require_tensorflow_backend, start


@click.command(epilog=model_help)
@click.argument("model", required=False)
@weights_option
@click.option("--batch-size", "batch_sizes", type=click.IntRange(min=1), multiple=True, help="Only these, rising.")
@click.option(
    "--max-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="Longest call of a batch.",
)
@click.option(
    "--growth",
    type=PictureFile(".png", ".svg"),
    help="Draw cost against the patches of an image, or its pixels where the model cuts none, to this file.",
)
@click.option("--tradeoff", type=PictureFile(".png", ".svg"), help="Draw figure 2 of the paper to this file.")
@json_option
def command(model, weights, batch_sizes, max_seconds, growth, tradeoff, as_json):
    """Measure images per second, operations, parameters and the share of the machine's matrix product that they use.

    Without MODEL it prints the published tables.
    """
    import dataclasses

    from keras_mixer import reported

    if tradeoff:
        start("keras")
        from keras_mixer.visualization import save_figure

        save_figure(reported.accuracy_cost_figure(), tradeoff)
    if model is None:
        if growth or batch_sizes:
            raise ValueError("Name the MODEL to measure.")
        _show_reported(reported.TABLE, as_json)
        return
    start("tensorflow", "keras")
    require_tensorflow_backend("Measuring speed and cost")
    opened, card = open_model(model, weights)
    # First, for not every model can be taken to other sizes.
    grown = {"growth": growth_to_picture(opened, growth)} if growth else {}
    measured = _measure(opened, card.name, batch_sizes, max_seconds) | grown
    published = reported.reported(card.name) or reported.reported(opened.name)
    if as_json:
        show([{**measured, "reported": [dataclasses.asdict(row) for row in published]}], as_json=True)
        return
    show(figures(measured, published, opened.input_shape[1:3]), title=card.name)
    _show_reported(published)


def _measure(model, name: str, batch_sizes, max_seconds: float) -> dict:
    from keras_mixer import evaluation
    from keras_mixer.evaluation.throughput import BATCH_SIZES
    from keras_mixer.models import multiply_adds

    speed = evaluation.measure_throughput(model, batch_sizes or BATCH_SIZES, max_seconds=max_seconds)
    peak = evaluation.matmul_peak()
    cost = multiply_adds(model)
    return {
        "model": name,
        "parameters": model.count_params(),
        "parameters_without_head": model.count_params() - _of_head(model),
        "multiply_adds": cost,
        "framework_operations": evaluation.framework_flops(model),
        "best_batch_size": speed.best_batch_size,
        "images_per_second": speed.best,
        "cores": speed.cores,
        "images_per_second_per_core": speed.best_per_core,
        "matmul_peak": peak,
        "fraction_of_peak": cost * speed.best / peak,
        "by_batch_size": speed.images_per_second,
    }


def _of_head(model) -> int:
    return sum(layer.count_params() for layer in model.layers if layer.name == "head")


def _show_reported(rows, as_json: bool = False) -> None:
    """A table for each source, or all rows as JSON."""
    import dataclasses
    import itertools

    if as_json:
        show([dataclasses.asdict(row) for row in rows], as_json=True)
        return
    for source, group in itertools.groupby(rows, key=lambda row: row.source):
        found = list(group)
        hardware = " or ".join(dict.fromkeys(row.hardware for row in found if row.hardware))
        table = [_reported_row(row) for row in found]
        stated = [column for column in table[0] if any(row[column] is not None for row in table)]
        title = f"Reported by {source}" + (f"; img/s of a {hardware}" if hardware else "")
        show([{column: row[column] for column in stated} for row in table], title=title)


def _reported_row(row) -> dict:
    return {
        "model": row.model,
        "data": row.pretraining,
        "px": row.image_size,
        "epochs": row.epochs,
        "ImageNet": row.imagenet,
        "ReaL": row.real,
        "avg 5": row.average_5,
        "VTAB": row.vtab,
        "img/s": row.images_per_second,
        "core-days": row.core_days,
        "M param.": row.parameters,
        "G MAdds": row.multiply_adds,
    }
