"""`keras-mixer export`: artefacts for servers, phones and other runtimes, with a report of their accuracy and speed."""

import dataclasses
import os
import pathlib

import click

from keras_mixer.artefacts import FORMATS
from keras_mixer.artefacts.predictor import require_tensorflow_backend
from keras_mixer.card import CARD_FILE, ModelCard
from keras_mixer.cli.options import dataset_options, repeated, specification
from keras_mixer.cli.output import json_option, show, start


def _check_formats(_context, _option, names):
    # `click.Choice` does not suit, because a program may have added its own formats to the table.
    for name in names:
        if name not in FORMATS:
            raise click.BadParameter(f"{name!r} is not one of {', '.join(map(repr, FORMATS))}.")
    return names


class _SeveralFormats(click.Command):
    """Reads version 0.1's `--formats a b c` as `--formats a --formats b --formats c`.

    A word after a format is read as a format too, unless it is a path.
    """

    def parse_args(self, ctx, args):
        spread: list[str] = []
        in_formats = False
        for argument in args:
            if argument.startswith("-"):
                in_formats = argument == "--formats"
            elif in_formats and spread[-1] != "--formats":
                in_formats = argument in FORMATS or not (os.sep in argument or os.path.exists(argument))
                spread += ["--formats"] * in_formats
            spread.append(argument)
        return super().parse_args(ctx, spread)


def _refuse_other_classes(folder: pathlib.Path, card: ModelCard) -> None:
    """Raises ValueError if `folder` has a model of other classes. A server would go from that model to this one."""
    if (folder / CARD_FILE).is_file() and ModelCard.load(folder / CARD_FILE).class_names != card.class_names:
        raise ValueError(
            f"{folder} already has a model of that name, with other classes. Choose a name with --name; --name "
            f"{card.name} makes this model the next version of that one."
        )


@click.command(cls=_SeveralFormats)
@click.argument("run", type=click.Path(exists=True))
@repeated(
    "--formats",
    metavar=f"[{'|'.join(FORMATS)}]",
    callback=_check_formats,
    default=("saved_model", "litert"),
    help="Format, such as --formats onnx --formats litert",
)
@click.option("--output", type=click.Path(file_okay=False), default="saved_models", help="Parent of NAME.")
@click.option("--name", help="Name of the model on a server; by default the card's.")
@click.option(
    "--serving", is_flag=True, help="Also write NAME-serving, which has all that TF Serving needs to run the model."
)
@click.option(
    "--webp",
    is_flag=True,
    help="Let the SavedModel read WebP images too; TensorFlow 2.19 and older do not load it then.",
)
@click.option(
    "--litert-batch",
    type=click.IntRange(1),
    default=1,
    metavar="N",
    help="Images that one call of a LiteRT file computes. MediaPipe takes only files of one image per call.",
)
@click.option(
    "--runtime",
    type=click.Path(exists=True, file_okay=False),
    help="node_modules/@litertjs of `npm install @litertjs/core`, for the web page; by default it is fetched.",
)
@dataset_options
@json_option
@click.pass_context
def command(
    context,
    run,
    formats,
    output,
    name,
    serving,
    webp,
    litert_batch,
    runtime,
    dataset,
    split,
    data_dir,
    limit,
    corrupt_limit,
    max_pixels,
    as_json,
):
    """Write a trained model as SavedModel, LiteRT and other artefacts, and measure the accuracy and speed of each.

    RUN is a run folder or a .keras file with its card. Everything is written to OUTPUT/NAME, which has the layout of a
    TF Serving model base path: a SavedModel becomes its next version. Each artefact is measured on the split that the
    card names, or on another one. The results are printed and written to report.json.

    If an artefact loses more accuracy than its format allows, a line names it and the exit status is 1. The file is
    still written. A SavedModel goes to OUTPUT/NAME/withheld instead, so that no server loads it.

    A SavedModel stores --max-megapixels and refuses larger images on the server.

    If neither the card nor --dataset names a dataset, artefacts are compared with the model on random images, and
    accuracy is not measured.
    """
    start("tensorflow", "keras")
    require_tensorflow_backend("Exporting")
    from keras_mixer.data import load_model
    from keras_mixer.export import export, write_serving_bundle
    from keras_mixer.wire import check_model_name

    if serving and "saved_model" not in formats:
        raise ValueError("--serving needs the SavedModel: add saved_model to --formats.")
    model, card = load_model(run)
    if name is None:
        _refuse_other_classes(pathlib.Path(output) / card.name, card)
    name = check_model_name(name or card.name)
    folder = pathlib.Path(output) / name
    report = export(
        model,
        dataclasses.replace(card, name=name),
        folder,
        formats,
        dataset=specification(card, dataset, split, data_dir),
        limit=limit,
        corrupt_limit=corrupt_limit,
        max_pixels=max_pixels,
        webp=webp,
        litert_batch=litert_batch,
        runtime=runtime,
        progress=lambda line: click.echo(f"{line} ...", err=True),
    )
    rows = [dataclasses.asdict(row) for row in report.rows]
    title = f"{folder}, {report.measured_on}"
    if report.batch_size > 1:
        title += f", timed with {report.batch_size} images a call"
    show(rows if as_json else [_row(row) for row in report.rows], title=title, as_json=as_json)
    if oldest := [f"{row.file} {row.min_runtime}" for row in report.rows if row.min_runtime]:
        click.echo(f"Oldest release of TensorFlow Lite that loads the file: {', '.join(oldest)}", err=True)
    if serving and all(row.within_limit for row in report.rows if row.artefact == "saved_model"):
        bundle = write_serving_bundle(folder, folder.with_name(f"{name}-serving"))
        click.echo(f"TF Serving bundle: {bundle} (start with its README.md)", err=True)
    for breach in report.breaches:
        click.echo(f"Error: in {folder}, {breach}", err=True)
    context.exit(1 if report.breaches else 0)


def _row(row) -> dict:
    def short(value: float | None, digits: int) -> float | None:
        return None if value is None else float(f"{value:.{digits}g}")

    # Few digits and short names keep the table within 80 columns; report.json has all digits, the files and the limits.
    return {
        "artefact": row.artefact.replace("_", " ") + (f" ({row.note})" if row.note else ""),
        "MB": short(row.bytes and row.bytes / 1e6, 3),
        "ms": short(row.milliseconds, 3),
        "img/s": None if row.images_per_second is None else round(row.images_per_second),
        "top-1 %": None if row.top1 is None else 100 * row.top1,
        "agree %": None if row.agreement is None else 100 * row.agreement,
        "score diff": short(row.largest_score_difference, 1),
        "logit diff": short(row.largest_logit_difference, 1),
    }
