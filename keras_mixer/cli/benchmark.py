"""`keras-mixer benchmark`: speed and cost of a model, beside the papers' figures."""

import collections
import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence

import click

from keras_mixer import reported
from keras_mixer.artefacts.predictor import require_tensorflow_backend
from keras_mixer.cli.options import (
    EngineName,
    PictureFile,
    model_help,
    open_classifier,
    open_model,
    precision_option,
    repeated,
    weights_option,
)
from keras_mixer.cli.output import json_option, show, start

PAPERS_IMAGE_SIZE = 224  # pixels; the papers count parameters and multiply-adds at this size
GROWTH_FACTORS = (1, 2, 3, 4)  # multiples of the image's sides
GROWTH_BATCH_SIZE = 16


@click.command(epilog=model_help)
@click.argument("model", required=False)
@weights_option
@repeated("--batch-size", "batch_sizes", type=click.IntRange(min=1), help="Measure only these, in rising order")
@click.option(
    "--max-seconds", type=click.FloatRange(min=0, min_open=True), default=5.0, help="Most seconds for one batch."
)
@click.option(
    "--growth",
    type=PictureFile(".png", ".svg"),
    help="Draw cost against the number of patches, or against pixels if the model has no patches, to this file.",
)
@click.option("--tradeoff", type=PictureFile(".png", ".svg"), help="Draw figure 2 of the paper to this file.")
@click.option(
    "--engine", type=EngineName(), help="Measure only the speed, with this engine; auto measures which is the fastest."
)
@precision_option
@json_option
def command(model, weights, batch_sizes, max_seconds, growth, tradeoff, engine, precision, as_json):
    """Measure speed, operations, parameters and the share of the machine's peak speed that a model reaches.

    With --engine or --precision, MODEL may also be an exported file, and only its speed is measured. Without MODEL,
    print the tables of the papers. A variant without --weights is measured with random weights.
    """
    if tradeoff:
        start("keras")
        from keras_mixer.visualization import save_figure

        save_figure(reported.accuracy_cost_figure(), tradeoff)
    if model is None:
        if growth or batch_sizes or engine or weights or precision != "float32":
            raise ValueError("Name the MODEL to measure.")
        _show_reported(reported.TABLE, as_json)
        return
    if engine is not None or precision != "float32":
        if growth:
            raise ValueError("--growth measures Keras on TensorFlow in float32: leave out --engine and --precision.")
        row = _measure_engine(model, weights, engine, precision, batch_sizes, max_seconds)
        rates = row["by_batch_size"].items()
        shown = [{"batch": size, "images/s": rate, "images/s and core": rate / row["cores"]} for size, rate in rates]
        show([row] if as_json else shown, title=f"{row['model']}, {row['engine']}, {precision}", as_json=as_json)
        return
    start("tensorflow", "keras")
    require_tensorflow_backend("Measuring speed and cost")
    opened, card = open_model(model, weights, untrained=True)
    # This comes first because some models cannot be resized.
    grown = {"growth": growth_to_picture(opened, growth)} if growth else {}
    measured = _measure(opened, card.name, batch_sizes, max_seconds) | grown
    published = reported.reported(card.name) or reported.reported(opened.name)
    if as_json:
        show([{**measured, "reported": [dataclasses.asdict(row) for row in published]}], as_json=True)
        return
    show(figures(measured, published, opened.input_shape[1:3]), title=card.name)
    _show_reported(published)


def _measure_engine(name: str, weights, engine, precision: str, batch_sizes, max_seconds: float) -> dict:
    from keras_mixer.evaluation import measure_predictor
    from keras_mixer.evaluation.throughput import BATCH_SIZES

    sizes = batch_sizes or BATCH_SIZES
    opened = open_classifier(name, weights, engine, precision, min(sizes), untrained=True)
    shape = opened.card.preprocessing.input_shape
    speed = measure_predictor(opened.predictor, shape, sizes, max_seconds=max_seconds)
    return {
        "model": opened.card.name,
        "engine": opened.predictor.format,
        "precision": precision,
        "best_batch_size": speed.best_batch_size,
        "images_per_second": speed.best,
        "cores": speed.cores,
        "images_per_second_per_core": speed.best_per_core,
        "by_batch_size": speed.images_per_second,
    }


def _measure(model, name: str, batch_sizes, max_seconds: float) -> dict:
    from keras_mixer import evaluation
    from keras_mixer.evaluation.throughput import BATCH_SIZES
    from keras_mixer.models import multiply_adds

    speed = evaluation.measure_throughput(model, batch_sizes or BATCH_SIZES, max_seconds=max_seconds)
    peak = evaluation.matmul_peak()
    cost = multiply_adds(model)
    head = sum(layer.count_params() for layer in model.layers if layer.name == "head")
    return {
        "model": name,
        "parameters": model.count_params(),
        "parameters_without_head": model.count_params() - head,
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


def _show_reported(rows, as_json: bool = False) -> None:
    """Prints a table for each source, or all rows as JSON."""
    if as_json:
        show([dataclasses.asdict(row) for row in rows], as_json=True)
        return
    for source, group in itertools.groupby(rows, key=lambda row: row.source):
        found = list(group)
        hardware = " or ".join(dict.fromkeys(row.hardware for row in found if row.hardware))
        fields = [
            field
            for field in reported.TITLES
            if field != "hardware" and any(getattr(row, field) is not None for row in found)
        ]
        title = f"Reported by {source}" + (f"; img/s of a {hardware}" if hardware else "")
        show([{reported.TITLES[field]: getattr(row, field) for field in fields} for row in found], title=title)


def figures(measured: dict, published: Sequence, image_size: tuple[int, int]) -> list[dict]:
    """Returns the measured figures as rows of a table, beside those that the papers report for this image size."""
    beside = _reported_figures(published, image_size)
    rows = []
    for key, quantity, value in _measured_figures(measured):
        row = {"quantity": quantity, "measured": value}
        rows.append(row | {"reported": beside.get(key)} if beside else row)
    return rows


def _measured_figures(measured: dict) -> Iterator[tuple[str, str, str]]:
    yield "parameters", "parameters", f"{measured['parameters']:,}"
    yield "parameters_without_head", "parameters without the head", f"{measured['parameters_without_head']:,}"
    yield "multiply_adds", "multiply-adds per image, by formula", f"{measured['multiply_adds']:,}"
    yield "", "operations per image, counted by TensorFlow", f"{measured['framework_operations']:,}"
    for size, rate in measured["by_batch_size"].items():
        yield "", f"images per second, batch of {size}", f"{rate:,.4g}"
    cores = "1 core" if measured["cores"] == 1 else f"{measured['cores']} cores"
    best = f"images per second and core, best (of {cores})"
    yield "images_per_second_per_core", best, f"{measured['images_per_second_per_core']:,.4g}"
    peak = f"{measured['matmul_peak'] / 1e9:,.4g} billion multiply-adds per second"
    yield "", "matrix product, fastest", peak
    yield "", "share of that product's speed that the model reaches", f"{100 * measured['fraction_of_peak']:.1f} %"
    growth = measured.get("growth", {})
    for name, exponent in growth.get("exponents", {}).items():
        yield "", f"{name}: exponent of growth with {size_unit(growth)}", f"{exponent:.2f}"


def _reported_figures(published: Sequence, image_size: tuple[int, int]) -> dict[str, str]:
    """Returns the figures that the papers report for images of this size, by the key of the measured figure."""
    found: dict[str, list[str]] = collections.defaultdict(list)
    for row in published:
        if tuple(image_size) != (row.image_size, row.image_size):
            continue
        if row.parameters and row.image_size == PAPERS_IMAGE_SIZE:
            # Only the Mixer paper counts parameters without the head.
            mixer = row.source.startswith(reported.MIXER)
            found["parameters_without_head" if mixer else "parameters"].append(f"{row.parameters:g} million")
        if row.multiply_adds:
            found["multiply_adds"].append(f"{row.multiply_adds:g} billion")
        if row.images_per_second:
            found["images_per_second_per_core"].append(f"{row.images_per_second:,} of a {row.hardware}")
    return {key: ", ".join(dict.fromkeys(texts)) for key, texts in found.items()}


def growth_to_picture(model, path: str) -> dict:
    """Measures a model at several image sizes, draws its costs against the sizes, and returns both."""
    from keras_mixer import evaluation, weights
    from keras_mixer.evaluation.pictures import draw_growth
    from keras_mixer.models import multiply_adds
    from keras_mixer.visualization import save_figure

    sizes: dict[str, list[int]] = {}
    costs: list[float] = []
    seconds: list[float] = []
    for factor in GROWTH_FACTORS:
        height, width = (factor * side for side in model.input_shape[1:3])
        larger = weights.change_resolution(model, (height, width), method="resample")
        speed = evaluation.measure_throughput(larger, [GROWTH_BATCH_SIZE], max_seconds=float("inf"))
        for unit, size in _sizes(larger).items():
            sizes.setdefault(unit, []).append(size)
        costs.append(multiply_adds(larger))
        seconds.append(1.0 / speed.best)
    drawn: dict[str, list[float]] = {"multiply-adds per image": costs, "seconds per image": seconds}
    unit = size_unit(sizes)
    save_figure(draw_growth(sizes[unit], drawn, unit), path)
    exponents = {name: evaluation.growth_exponent(sizes[unit], values) for name, values in drawn.items()}
    return {**sizes, "multiply_adds": costs, "seconds": seconds, "exponents": exponents}


def size_unit(measured: dict) -> str:
    """Returns the unit of the picture's axis: patches as in the paper, or pixels if the model has no patches."""
    return "patches" if "patches" in measured else "pixels"


def _sizes(model) -> dict[str, int]:
    from keras_mixer.layers import PatchEmbedding

    patches = [math.prod(layer.grid) for layer in model.layers if isinstance(layer, PatchEmbedding)]
    return {"pixels": math.prod(model.input_shape[1:3])} | ({"patches": patches[0]} if patches else {})
