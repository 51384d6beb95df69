"""A folder with what the documentation's examples find: photographs, a run, its exports, and published weights.

The published weights are stand-ins: files in the real layout, for networks with the variants' names and image sizes but
one block of a few channels.
"""

import contextlib
import dataclasses
import hashlib
import importlib.util
import json
import pathlib
import shutil
from collections.abc import Iterator
from unittest import mock

import family
import numpy as np
import photographs
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

import keras_mixer
from keras_mixer import constructors
from keras_mixer.download import cache_directory, write_digest
from keras_mixer.models import catalogue
from keras_mixer.weights.published.cache import find

DATA = pathlib.Path(__file__).parents[1] / "data"
# Variant -> its sizes here, and the sets of weights that the examples load.
TINY: dict[str, tuple[dict, tuple[str, ...]]] = {
    "mixer_b16": (
        dict(num_blocks=1, hidden_dim=8, tokens_mlp_dim=4, channels_mlp_dim=8),
        ("imagenet21k", "imagenet1k"),
    ),
    "mixer_s32": (dict(num_blocks=1, hidden_dim=8, tokens_mlp_dim=4, channels_mlp_dim=8), ("gsam",)),
    "g_mlp_s": ({k: v for k, v in family.sizes("gmlp").items() if k != "classes"}, ()),
}


def furnish(folder: pathlib.Path, run: pathlib.Path, exported: pathlib.Path) -> None:
    """Fills a folder with a run, its exports, photographs of two classes of flowers, and weights of one's own."""
    shutil.copytree(run, folder / "runs" / "digits")
    shutil.copytree(exported, folder / "saved_models" / "digits")
    for name in ("seven.png", "three.png"):
        shutil.copy(DATA / "digits" / "8_sample1.png", folder / name)
    random = np.random.default_rng(0)
    names = ["photo.jpg", "rose.jpg", "photographs/one.jpg", "photographs/two.png", "holidays/one.jpg"]
    for split, count in {"train": 10, "test": 2}.items():
        names += [f"flowers/{split}/{name}/{n}.jpg" for name in ("rose", "tulip") for n in range(count)]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (60, 80, 3), np.uint8)).save(folder / name)
    shutil.copytree(folder / "flowers", folder / "photos")
    pq.write_table(pa.table({"id": ["one"], "image": [(folder / "photo.jpg").read_bytes()]}), folder / "more.parquet")
    if importlib.util.find_spec("pillow_heif"):
        (folder / "photograph.heic").write_bytes(photographs.encoded(photographs.photograph(), "HEIF"))
    shutil.copy(family.checkpoint("gmlp"), folder / "gmlp_s16_224.safetensors")


@contextlib.contextmanager
def small_variants() -> Iterator[None]:
    """Makes the variants of `TINY` small."""
    records = [_small(record) for record in catalogue.architectures()]
    with mock.patch.object(catalogue, "_registered", records):
        _forget_constructors(records)
        yield
    _forget_constructors(records)


def _forget_constructors(records) -> None:
    """Both caches of constructors: that of the function which makes them, and the package's loaded names."""
    constructors._constructor.cache_clear()
    for name in (row.constructor for record in records for row in record.variants):
        vars(keras_mixer).pop(name, None)


def publish() -> None:
    """Fills the cache with the sets of `TINY` and the names of classes."""
    folder = cache_directory()
    folder.mkdir(parents=True)
    with small_variants():
        for variant, (_, sets) in TINY.items():
            for entry in (find(variant, name) for name in sets):
                model = catalogue.build(variant, classes=entry.classes)
                keras_mixer.weights.save_npz(model, folder / entry.file_name)
    ids = [f"n{index:08}" for index in range(21_843)]
    index = {str(number): [ids[number], f"class {number}"] for number in range(1_000)}
    (folder / "imagenet_class_index.json").write_text(json.dumps(index))
    for name in ("ids", "lemmas"):
        (folder / f"imagenet21k_wordnet_{name}.txt").write_text("\n".join(ids))
    for path in list(folder.iterdir()):
        write_digest(path, hashlib.sha256(path.read_bytes()).hexdigest())


def _small(record):
    def sizes(row):
        return dataclasses.replace(row.sizes, **TINY[row.name][0]) if row.name in TINY else row.sizes

    variants = tuple(dataclasses.replace(row, sizes=sizes(row)) for row in record.variants)
    return dataclasses.replace(record, variants=variants)
