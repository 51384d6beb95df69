"""Options and arguments that several sub-commands take: numbers, files to draw, a dataset, a model."""

import dataclasses
import math
import os
import pathlib

import click

from keras_mixer.cli.output import start

model_help = "MODEL is a run folder, a .keras file, or the name of a variant such as mixer_b16."
weights_option = click.option("--weights", help="Published set or path, for a variant; random weights otherwise.")


class PositiveNumber(click.FloatRange):
    """A finite number above 0; Click itself also takes `nan` and `inf`."""

    def __init__(self):
        super().__init__(min=0, min_open=True)

    def convert(self, value, param, ctx):
        """Returns the number.

        Raises:
            click.BadParameter: If it is not a finite number above 0.
        """
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


class PictureFile(click.Path):
    """A file that a command writes at its end, with one of some suffixes; checked before the command starts."""

    def __init__(self, *suffixes: str):
        super().__init__(dir_okay=False, writable=True)
        self.suffixes = suffixes

    def convert(self, value, param, ctx):
        """Returns the path as it was given.

        Raises:
            click.BadParameter: If it ends in another suffix, or cannot be written.
        """
        path = os.fsdecode(super().convert(value, param, ctx))
        if pathlib.Path(path).suffix not in self.suffixes:
            *most, last = self.suffixes
            self.fail(f"it is written as {', '.join(most)} or {last}, but got {path}", param, ctx)
        folder = next(parent for parent in pathlib.Path(os.path.abspath(path)).parents if os.path.lexists(parent))
        if not folder.is_dir():
            self.fail(f"{path} cannot be written: {folder} is not a folder", param, ctx)
        if not os.access(folder, os.W_OK | os.X_OK):
            self.fail(f"{path} cannot be written: no permission to write to {folder}", param, ctx)
        return path


data_dir_option = click.option("--data-dir", type=click.Path(file_okay=False), help="Where TFDS datasets are stored.")


def dataset_options(function):
    """Adds `--dataset`, `--split`, `--data-dir`, `--limit` and `--corrupt-limit` to a command."""
    options = (
        click.option("--dataset", metavar="NAME", help="TFDS name, or folder of images, instead of the card's."),
        click.option("--split", metavar="SPLIT", help="Its split, such as train[:10%]; test after --dataset."),
        data_dir_option,
        click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Read only the first N images."),
        click.option(
            "--corrupt-limit",
            type=click.IntRange(min=0),
            default=0,
            metavar="N",
            help="Leave out up to N images that cannot be read, and name them.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def specification(card, dataset: str | None, split: str | None, data_dir: str | None):
    """Returns the card's dataset with the given settings in place of its own; None if there is neither.

    Raises:
        ValueError: If a split or a data folder is given, but no dataset.
    """
    from keras_mixer.dataset import DatasetSpec

    default = {} if dataset is None else {"split": "test"}
    given = default | {key: value for key, value in {"split": split, "data_dir": data_dir}.items() if value is not None}
    if dataset is not None:
        return DatasetSpec(dataset, **given)
    if card.dataset is None and given:
        raise ValueError(f"The card of {card.name!r} names no dataset: give --dataset too.")
    return card.dataset and dataclasses.replace(card.dataset, **given)


def open_model(name: str, weights: str | None = None):
    """Opens what MODEL names: a trained model by its path, or a variant by its name.

    Returns:
        The model and its card. The card of a variant has no dataset, and class names only if its weights bring them.

    Raises:
        ValueError: If there is no such model.
    """
    start("tensorflow", "keras")
    from keras_mixer.models import ARCHITECTURES

    if name in ARCHITECTURES:
        from keras_mixer.applications import CONSTRUCTORS
        from keras_mixer.card import ModelCard
        from keras_mixer.weights import available

        model = CONSTRUCTORS[name](weights=weights)
        height, width, channels = model.input_shape[1:]
        preprocessing = dataclasses.replace(model.preprocessing, image_size=(height, width), channels=channels)
        published = next((entry for entry in available(name) if entry.name == weights), None)
        return model, ModelCard(name, published.class_names if published else (), preprocessing)
    if weights is not None:
        raise ValueError("--weights is for a variant named as MODEL; a run folder brings its own.")
    from keras_mixer.data import load_model

    try:
        return load_model(name)
    except ValueError as error:
        if os.path.exists(name):
            raise
        raise ValueError(f"{error} Variants: {', '.join(ARCHITECTURES)}.") from error
