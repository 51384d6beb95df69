"""`keras-mixer evaluate`: the accuracy of trained models, in any of their forms, on one split."""

import click

from keras_mixer.cli.dataset_options import dataset_options, specification
from keras_mixer.cli.output import json_option, show
from keras_mixer.cli.startup import start

MAX_CLASSES_SHOWN = 100


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...", type=click.Path(exists=True))
@dataset_options
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--sheet", type=click.Path(dir_okay=False), help="Also draw predictions of the first MODEL to this file.")
@json_option
def command(models, dataset, split, data_dir, limit, batch_size, sheet, as_json):
    """Measure the accuracy of trained models on the split that their card names, or on another one.

    MODEL is a run folder, a .keras file, a SavedModel folder, or an exported .tflite, .onnx or .xml file. Several
    models are measured on the same images, and compared with the first.
    """
    start("tensorflow", "keras")
    from keras_mixer.evaluation import EvaluationSplit, measure, open_classifier, save_prediction_sheet

    opened = {model: open_classifier(model) for model in models}
    cards = [card for _, card in opened.values()]
    for model, card in zip(models, cards, strict=False):
        if (card.class_names, card.preprocessing) != (cards[0].class_names, cards[0].preprocessing):
            raise ValueError(f"{model} has other classes or preprocessing than {models[0]}: evaluate it on its own.")
    predictors = {model: predictor for model, (predictor, _) in opened.items()}
    spec = specification(cards[0], dataset, split, data_dir)
    images = EvaluationSplit(cards[0], spec, batch_size=batch_size, limit=limit)
    accuracies = measure(predictors, images)
    if sheet:
        save_prediction_sheet(predictors[models[0]], images, cards[0].class_names, sheet)

    rows = [_row(model, accuracy, as_json) for model, accuracy in accuracies.items()]
    show(rows, title=f"{images.source.spec.name}, split {images.source.spec.split}", as_json=as_json)
    if not as_json and len(accuracies) == 1 and len(cards[0].class_names) <= MAX_CLASSES_SHOWN:
        shares = next(iter(accuracies.values())).per_class
        percents = [None if share is None else 100 * share for share in shares]
        show([{"class": name, "top-1 %": value} for name, value in zip(cards[0].class_names, percents, strict=True)])


def _row(model, accuracy, as_json: bool) -> dict:
    import dataclasses

    if as_json:
        return {"model": model, **dataclasses.asdict(accuracy)}
    row = {"model": model, "images": accuracy.examples, "top-1 %": 100 * accuracy.top1, "top-5 %": 100 * accuracy.top5}
    if accuracy.agreement is not None:
        row["agreement %"] = 100 * accuracy.agreement
        row["largest logit difference"] = accuracy.largest_logit_difference
    return row
