"""`keras-mixer data`: examines a dataset before training."""

import click

from keras_mixer.cli.options import PictureFile, data_dir_option
from keras_mixer.cli.output import json_option, show, start
from keras_mixer.dataset import DatasetSpec
from keras_mixer.extras import installed
from keras_mixer.listing import plural

NAMED = 20  # largest number of images that are listed, except in JSON
EXAMPLES = """\b
keras-mixer data ./photos --sheet photos.png
keras-mixer data ./photos --prepare ./photos_clean
"""


@click.command(epilog=EXAMPLES)
@click.argument("dataset", metavar="FOLDER|NAME")
@data_dir_option
@click.option("--sheet", type=PictureFile(".png", ".pdf", ".svg"), help="Also draw images of each class to this file.")
@click.option("--prepare", type=click.Path(file_okay=False), help="Also write a clean copy of a folder to this folder.")
@click.option("--side", type=click.IntRange(min=1), default=1024, help="Longest side of the copies, in pixels.")
@json_option
@click.pass_context
def command(context, dataset, data_dir, sheet, prepare, side, as_json):
    """Examine a folder of images or a TFDS dataset before training.

    Reads all images. Shows the splits that training uses, the number of images of each class, formats and sizes,
    unreadable images and duplicates. Duplicates in two splits make the measured accuracy too high.

    The exit status is 2 if training would fail, or if its evaluation would be wrong.

    --prepare writes the readable images of a folder as upright JPEGs to train/, validation/ and test/, by class.
    Duplicates go into the same split.
    """
    if installed("tensorflow") and not DatasetSpec(dataset).is_folder:
        start("tensorflow")
    from keras_mixer import data
    from keras_mixer.data.examination import save_contact_sheet
    from keras_mixer.progress import Progress

    with Progress("Examining", 0, "images") as bar:
        report = data.examine(dataset, data_dir, lambda done: bar.update(done, lambda: ""))
    used, roles, problems = _used(dataset, data_dir)
    problems += _problems(report, roles)
    if as_json:
        show([{**report.to_dict(), "used": used, "problems": problems}], as_json=True)
    else:
        _show(report, used, problems)
    if sheet:
        save_contact_sheet(report, sheet)
    if prepare:
        counts = ", ".join(f"{count:,} to {split}" for split, count in data.prepare(report, prepare, side).items())
        click.echo(f"Written to {prepare}: {counts}.", err=as_json)
    context.exit(2 if problems else 0)


def _used(name: str, data_dir: str | None) -> tuple[dict, dict[str, str], list[str]]:
    """Returns the splits that training would use, the use of each image of a folder, and why training would refuse."""
    from keras_mixer.data import load
    from keras_mixer.training.defaults import check_classes, choose_splits
    from keras_mixer.training.recipe import AUTO, DataSpec

    try:
        data = choose_splits(DataSpec(name, AUTO, AUTO, AUTO, data_dir=data_dir))
        splits = {"training": data.train_split, "evaluation": data.eval_split, "test": data.test_split}
        sources = {role: load(data.of(split)) for role, split in splits.items() if split is not None}
        check_classes(sources["training"])
    except ValueError as error:
        return {}, {}, [str(error)]
    roles = {
        source.location(index): role
        for role, source in sources.items()
        if source.layout is not None
        for index in range(source.num_examples)
    }
    return {role: splits[role] for role in sources}, roles, []


def _problems(report, roles: dict[str, str]) -> list[str]:
    problems = []
    if report.unreadable:
        problems.append(f"{plural(len(report.unreadable), 'image')} cannot be read: training stops there.")
    uses_of: dict[bytes, dict[str, str]] = {}  # of equal files: an image of each use
    for image in report.images:
        use = roles.get(image.place) if roles else image.split
        if use is not None and image.problem is None:
            uses_of.setdefault(image.digest, {}).setdefault(use, image.place)
    leaking = [uses for uses in uses_of.values() if len(uses) > 1]
    if leaking:
        held_out = " --prepare keeps them together." if len({image.split for image in report.images}) == 1 else ""
        problems.append(
            f"{len(leaking):,} image{'s are' if len(leaking) > 1 else ' is'} in {' and '.join(leaking[0])} at once, so "
            f"that evaluation sees training images, such as {' and '.join(leaking[0].values())}.{held_out}"
        )
    return problems


def _show(report, used: dict, problems: list[str]) -> None:
    show(
        [{"class": label, **counts} for label, counts in report.counts().items()],
        title=f"{report.name}: {len(report.images):,} images",
    )
    splits = ", ".join(f"{role} on {split}" for role, split in used.items())
    formats = ", ".join(f"{count:,} {name}" for name, count in report.formats().items())
    sizes = ", ".join(f"{name} {width} x {height}" for name, (width, height) in report.sizes().items())
    lines = [
        f"Used: {splits}." if splits else "",
        f"Formats: {formats}. {report.turned():,} stored turned.",
        f"Sizes: {sizes}." if sizes else "",
    ]
    lines.append(report.left_out)
    lines += [f"Cannot be read: {image.place}: {image.problem}." for image in report.unreadable[:NAMED]]
    for group in report.duplicates[:NAMED]:
        kind = "Equal" if group.exact else "Nearly equal"
        across = f" across {' and '.join(group.splits)}" if len(group.splits) > 1 else ""
        labels = f", of the classes {' and '.join(group.labels)}" if len(group.labels) > 1 else ""
        lines.append(f"{kind}{across}{labels}: {', '.join(group.places[:5])}{', ...' if len(group.places) > 5 else ''}")
    hidden = max(len(report.unreadable) - NAMED, 0) + max(len(report.duplicates) - NAMED, 0)
    lines += [f"... and {hidden:,} more; --json lists all."] if hidden else []
    lines += [f"Problem: {problem}" for problem in problems] or ["Training can begin."]
    for line in filter(None, lines):
        click.echo(line)
