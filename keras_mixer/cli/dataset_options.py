"""The options by which a command is given another split than the one that a model's card names."""

import dataclasses

import click


def dataset_options(function):
    """Adds `--dataset`, `--split`, `--data-dir`, `--limit` and `--corrupt-limit` to a command."""
    options = (
        click.option("--dataset", metavar="NAME", help="TFDS name, or folder of images, instead of the card's."),
        click.option("--split", metavar="SPLIT", help="Split of it, such as train[:10%]; test after --dataset."),
        click.option("--data-dir", type=click.Path(file_okay=False), help="Where TFDS datasets are stored."),
        click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Read the first N images alone."),
        click.option(
            "--corrupt-limit",
            type=click.IntRange(min=0),
            default=0,
            show_default=True,
            metavar="N",
            help="Leave out up to N images that cannot be read, and name them.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def specification(card, dataset: str | None, split: str | None, data_dir: str | None):
    """The card's dataset with what was given in its place; None if there is neither.

    Raises:
        ValueError: If a split or a data folder is given for no dataset.
    """
    from keras_mixer.data import DatasetSpec

    default = {} if dataset is None else {"split": "test"}
    given = default | {key: value for key, value in {"split": split, "data_dir": data_dir}.items() if value is not None}
    if dataset is not None:
        return DatasetSpec(dataset, **given)
    if card.dataset is None and given:
        raise ValueError(f"The card of {card.name!r} names no dataset: give --dataset too.")
    return card.dataset and dataclasses.replace(card.dataset, **given)
