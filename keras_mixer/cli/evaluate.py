"""`keras-mixer evaluate`: the accuracy of trained models, in any format, on one split."""

import csv
import dataclasses
import pathlib

import click

from keras_mixer.cli.options import (
    PictureFile,
    dataset_options,
    names_variant,
    open_variant,
    specification,
    weights_option,
)
from keras_mixer.cli.output import json_option, show, start_keras

MAX_CLASSES_SHOWN = 100
DATASETS = """\b
ImageNet:       --dataset imagenet2012 --split validation
ImageNet-v2:    --dataset imagenet_v2
ImageNet ReaL:  --real
"""


@click.command(epilog=DATASETS)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@weights_option
@dataset_options
@click.option(
    "--among-dataset-classes",
    is_flag=True,
    help="Compare only the scores of the dataset's classes, not those of all classes of the model.",
)
@click.option("--real", is_flag=True, help="Use ImageNet's validation images, with their own and with the ReaL labels.")
@click.option("--batch-size", type=click.IntRange(min=1), default=64, help="Images per call.")
@click.option(
    "--sheet", type=PictureFile(".png", ".pdf", ".svg"), help="Also draw predictions of the first MODEL to this file."
)
@click.option(
    "--confusion",
    type=PictureFile(".csv", ".png", ".svg"),
    help="Also write the confusion matrix of the first MODEL: counts to a .csv file, or a .png or .svg picture. --json "
    "has the counts of up to 100 classes.",
)
@json_option
def command(
    models,
    weights,
    dataset,
    split,
    data_dir,
    limit,
    corrupt_limit,
    max_pixels,
    among_dataset_classes,
    real,
    batch_size,
    sheet,
    confusion,
    as_json,
):
    """Measure the accuracy of trained models on the split that their card names, or on another one.

    MODEL is a run folder, a .keras file, a SavedModel folder, an exported .tflite, .onnx or .xml file, or the name of
    a variant with --weights. Several models are measured on the same images, and compared with the first.

    All classes of the model compete, even if the dataset has only some of them. The exception is a model of 21,843
    classes on an ImageNet dataset, where only the 1,000 classes of the dataset compete.
    """
    start_keras()
    from keras_mixer import evaluation

    if real and (dataset or split):
        raise ValueError("--real names its own dataset and split: leave out --dataset and --split.")
    if real and corrupt_limit:
        raise ValueError(
            "--real needs every image, because its labels are in the order of the images: repair the dataset, and "
            "leave out --corrupt-limit."
        )
    opened = {model: _open(model, weights) for model in models}
    cards = [card for _, card in opened.values()]
    for model, (_, card) in opened.items():
        if (card.class_names, card.preprocessing) != (cards[0].class_names, cards[0].preprocessing):
            raise ValueError(f"{model} has other classes or preprocessing than {models[0]}: evaluate it on its own.")
    spec = evaluation.real_dataset(data_dir) if real else specification(cards[0], dataset, split, data_dir)
    among = True if among_dataset_classes else None
    images = evaluation.EvaluationSplit(
        cards[0],
        spec,
        batch_size=batch_size,
        limit=limit,
        corrupt_limit=corrupt_limit,
        max_pixels=max_pixels,
        subset=among,
    )
    predictors = {model: predictor for model, (predictor, _) in opened.items()}
    if images.classes is not None:
        predictors = {
            model: evaluation.on_classes(predictor, images.classes) for model, predictor in predictors.items()
        }
    accuracies = evaluation.measure(predictors, images)

    class_names = images.class_names
    title = f"{images.source.spec.name}, split {images.source.spec.split}"
    if images.classes is not None:
        title += f": {len(class_names):,} of {len(cards[0].class_names):,} classes"
    label_sets = evaluation.real_label_sets(images.source.spec, limit) if real else []
    row = _json_row if as_json else _table_row
    rows = [
        row(model, accuracy, *(evaluation.real_accuracy(accuracy.predictions, label_sets) if real else ()))
        for model, accuracy in accuracies.items()
    ]
    if images.classes is not None:  # shown beside the accuracy, because fewer classes are easier to tell apart
        rows = [{**row, "among_classes" if as_json else "among classes": len(class_names)} for row in rows]
    show(rows, title=title, as_json=as_json)
    if not as_json and len(accuracies) == 1 and len(class_names) <= MAX_CLASSES_SHOWN:
        shares = next(iter(accuracies.values())).per_class
        percents = [None if share is None else 100 * share for share in shares]
        show([{"class": name, "top-1 %": value} for name, value in zip(class_names, percents, strict=True)])
    # Pictures are drawn last. If drawing fails, the results are already on the screen.
    if confusion:
        _write_confusion(accuracies[models[0]].confusion_matrix(), class_names, confusion, title)
    if sheet:
        evaluation.save_prediction_sheet(predictors[models[0]], images, class_names, sheet)


def _open(model: str, weights: str | None):
    """Returns the classifier and its card. For a variant, the class names are those of the published weights."""
    from keras_mixer.evaluation import keras_predictor, open_classifier
    from keras_mixer.weights import names_of, wordnet_ids
    from keras_mixer.weights.published.cache import set_of

    if not names_variant(model, weights):
        return open_classifier(model)
    published = set_of(model, weights)
    names = names_of(published) if published else ()  # an error for unknown classes comes before the download
    opened, card = open_variant(model, weights)
    names = names or wordnet_ids(opened.output_shape[-1])
    return keras_predictor(opened), dataclasses.replace(card, class_names=names)


def _json_row(model: str, accuracy, real: float | None = None, real_examples: int | None = None) -> dict:
    row = {"model": model, **dataclasses.asdict(accuracy)}
    del row["labels"], row["predictions"]
    small = len(accuracy.per_class) <= MAX_CLASSES_SHOWN
    row["confusion_matrix"] = accuracy.confusion_matrix().tolist() if small else None
    return row if real is None else {**row, "real": real, "real_examples": real_examples}


def _table_row(model: str, accuracy, real: float | None = None, real_examples: int | None = None) -> dict:
    row = {"model": model, "images": accuracy.examples, "top-1 %": 100 * accuracy.top1, "top-5 %": 100 * accuracy.top5}
    row["ECE %"] = None if accuracy.calibration_error is None else 100 * accuracy.calibration_error
    if real is not None:
        row["ReaL %"] = 100 * real
        row["with ReaL labels"] = real_examples
    if accuracy.agreement is not None:
        row["agreement %"] = 100 * accuracy.agreement
        row["largest logit difference"] = accuracy.largest_logit_difference
    return row


def _write_confusion(counts, class_names, path: str, title: str) -> None:
    """Writes the counts as CSV, with class names as headers of rows and columns, or draws them."""
    target = pathlib.Path(path)
    if target.suffix != ".csv":
        from keras_mixer.evaluation.pictures import draw_confusion
        from keras_mixer.visualization import save_figure

        save_figure(draw_confusion(counts, class_names, title), target)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["true class", *class_names])
        writer.writerows([name, *row] for name, row in zip(class_names, counts.tolist(), strict=True))
