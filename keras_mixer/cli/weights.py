"""`keras-mixer weights`: lists, downloads, checks and publishes weights."""

import dataclasses
import pathlib

import click

from keras_mixer.card import CARD_FILE, ModelCard
from keras_mixer.cli.options import dataset_options, open_variant, specification
from keras_mixer.cli.output import json_option, show, start_keras


@click.group()
def command():
    """List, download, verify and publish weights.

    Downloads are kept in the folder keras_mixer of Keras's cache (~/.keras, or KERAS_HOME).
    KERAS_MIXER_WEIGHTS_BASE_URL names a mirror to download from. Without a mirror, the package huggingface_hub, if
    installed, downloads the sets that are on the Hugging Face hub into its own cache. SET may also be
    hf://OWNER/REPO[@REVISION][/FILE].
    """


@command.command("list")
@click.option("--variant", help="Only the sets of this variant, such as mixer_b16.")
@json_option
def list_(variant, as_json):
    """List every published set of weights."""
    from keras_mixer.weights.published.cache import cached_path

    rows = []
    notes: dict[str, list[str]] = {}  # note -> the sets that it applies to
    for entry in _sets(variant, None):
        path = cached_path(entry)
        if entry.note and entry.name not in notes.setdefault(entry.note, []):
            notes[entry.note].append(entry.name)
        row = {
            "variant": entry.variant,
            "set": entry.name if as_json or not entry.note else f"{entry.name}*",
            "classes": entry.classes,
            "input": "[0, 1]" if entry.preprocessing.mean == 0 else "[-1, 1]",
            "licence": entry.licence,
            "cached": path.is_file(),
        }
        if as_json:
            row |= {"url": entry.url, "path": str(path), "source": entry.source, "note": entry.note}
        rows.append(row)
    show(rows, title="Published weights (--json also gives sources)", as_json=as_json)
    for note, names in notes.items():
        if not as_json:
            click.echo(f"* {', '.join(names)}: {note}")


@command.command()
@click.argument("variant")
@click.argument("name", metavar="SET")
@json_option
def download(variant, name, as_json):
    """Download the SET of VARIANT into the cache.

    For example: keras-mixer weights download mixer_b16 imagenet21k
    """
    from keras_mixer.download import verify as sha256_of
    from keras_mixer.weights import find
    from keras_mixer.weights.published.cache import download as fetch

    entry = find(variant, name)
    path = fetch(variant, name)
    if entry.note:
        click.echo(f"Note: {entry.note}", err=True)
    row = {"variant": variant, "set": name, "bytes": path.stat().st_size, "sha256": sha256_of(path), "path": str(path)}
    show([row], as_json=as_json)


@command.command()
@click.argument("variant")
@click.argument("name", metavar="SET")
@click.argument("folder", type=click.Path(file_okay=False))
@click.option("--dataset", help="TFDS name or folder of images to evaluate the model on.")
@click.option("--split", default="test", help="Its split.")
def save(variant, name, folder, dataset, split):
    """Write the SET of VARIANT to FOLDER as a trained model.

    The other commands take the folder.

    For example: keras-mixer predict --model FOLDER photo.jpg
    """
    from keras_mixer.weights import find
    from keras_mixer.weights.published.class_names import names_of

    names = names_of(find(variant, name))  # an error for unknown classes comes before the download
    title = f"{variant}-{name.removeprefix('hf://').replace('/', '-')}"
    _refuse_to_replace(pathlib.Path(folder), title)
    model, card = open_variant(variant, name)
    from keras_mixer.data import DatasetSpec, save_model

    spec = DatasetSpec(dataset, split) if dataset else None
    card = dataclasses.replace(card, name=title, class_names=names, dataset=spec)
    save_model(model, card, folder)
    click.echo(f"Written to {folder}.")


def _refuse_to_replace(folder: pathlib.Path, title: str) -> None:
    """Raises ValueError if a folder holds a model that this command did not write there under this title."""
    try:
        same = ModelCard.load(folder / CARD_FILE).name == title
    except (OSError, ValueError):
        same = False
    found = [path.name for path in (folder / "model.keras", folder / CARD_FILE) if path.exists()]
    if found and not same:
        raise ValueError(f"{folder} holds the {', '.join(found)} of another model: choose another folder.")


@command.command()
@click.argument("run")
@click.argument("address", metavar="hf://OWNER/REPO")
@dataset_options
@click.option("--licence", default="unknown", help="Licence of the weights as the hub names it, such as apache-2.0.")
@click.option("--private", is_flag=True, help="Make a new repository private.")
def push(run, address, dataset, split, data_dir, limit, corrupt_limit, max_pixels, licence, private):
    """Upload the trained model RUN to the Hugging Face hub.

    The model is measured first. Then its weights and a model card are uploaded. The token comes from HF_TOKEN or from
    `hf auth login`. weights="hf://OWNER/REPO" reads the weights back.
    """
    start_keras()
    from keras_mixer.data import load_model
    from keras_mixer.export import push_to_hub

    model, card = load_model(run)

    page = push_to_hub(
        model,
        card,
        address,
        dataset=specification(card, dataset, split, data_dir),
        limit=limit,
        corrupt_limit=corrupt_limit,
        max_pixels=max_pixels,
        licence=licence,
        private=private,
    )
    click.echo(f"Uploaded to {page}.")


@command.command()
@click.argument("variant", required=False)
@click.argument("name", metavar="[SET]", required=False)
@json_option
def verify(variant, name, as_json):
    """Check files of weights: their sha256, contents and classes.

    Without arguments, all files in the cache and the package are checked. The exit status is 2 if one is damaged.
    """
    from keras_mixer.weights.published.cache import cached_path, check_cached

    rows, failures = [], []
    for entry in _sets(variant, name):
        path = cached_path(entry)
        if not path.is_file() and name is None:
            continue
        row = {"variant": entry.variant, "set": entry.name, "status": "ok", "values": None, "path": str(path)}
        try:
            row["values"] = check_cached(entry)
        except FileNotFoundError:
            row["status"] = "not downloaded"
            failures.append(f"{path} is not there")
        except (ValueError, OSError) as error:
            row["status"] = "failed"
            failures.append(str(error))
        rows.append(row)
    if rows or as_json:
        show(rows, as_json=as_json)
    else:
        click.echo("Nothing is in the cache.")
    if failures:
        raise ValueError(" ".join(failures))


def _sets(variant, name):
    """Returns the published sets of a variant and name; None stands for all."""
    from keras_mixer.weights import available, find

    if name is None and (entries := available(variant)):
        return entries
    return [find(variant, name)]
