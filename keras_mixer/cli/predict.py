"""`keras-mixer predict`: the most likely classes of image files."""

import click

from keras_mixer.cli.output import json_option, show
from keras_mixer.cli.startup import start


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=click.Path())
@click.option(
    "--model", required=True, type=click.Path(exists=True), help="Run folder, .keras file or exported artefact."
)
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="Classes to show of each image.")
@json_option
@click.pass_context
def command(context, images, model, top, as_json):
    """Classify image files (JPEG or PNG).

    A file that cannot be read gives one line on the standard error; the others are classified all the same, and the
    exit status is 2.
    """
    start("tensorflow", "keras")
    from keras_mixer.evaluation import open_classifier, predict_file

    predictor, card = open_classifier(model)
    rows, failures = [], 0
    for path in images:
        try:
            best = predict_file(predictor, card, path, top)
        except (ValueError, OSError) as error:
            click.echo(f"Error: {error}", err=True)
            failures += 1
            continue
        rows += [
            {"image": path if rank == 1 or as_json else "", "rank": rank, "class": name, "score": score}
            for rank, (name, score) in enumerate(best, start=1)
        ]
    if rows or as_json:
        show(rows, as_json=as_json)
    context.exit(2 if failures else 0)
