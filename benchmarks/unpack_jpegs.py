"""Unpacks an archive of encoded images into the folder layout that `keras_mixer.data.load` reads.

    python benchmarks/unpack_jpegs.py cifar10_jpeg.npz cifar10/ [--validation 2000]

The archive (.npz) holds, for each split, `SPLIT_bytes` (all files one after the other, uint8), `SPLIT_offsets` (n + 1
places in it) and `SPLIT_labels`, and `class_names`. Image i of class c becomes `FOLDER/SPLIT/c/i.jpg`. With
`--validation N` the last N training images become a split of their own, so that the test images decide nothing.
"""

import pathlib

import click
import numpy as np


@click.command(help=__doc__.splitlines()[0])
@click.argument("archive", type=click.Path(exists=True, dir_okay=False))
@click.argument("folder", type=click.Path(file_okay=False, path_type=pathlib.Path))
@click.option(
    "--validation", type=click.IntRange(min=0), default=0, help="How many of the last training images to hold out."
)
def main(archive, folder, validation):
    if folder.exists() and any(folder.iterdir()):
        raise click.BadParameter(f"{folder} is not empty: images of an earlier call would mix with these.")
    with np.load(archive) as arrays:
        splits = sorted(name.removesuffix("_bytes") for name in arrays.files if name.endswith("_bytes"))
        if not splits or "class_names" not in arrays.files:
            raise click.BadParameter(f"{archive} has no SPLIT_bytes and class_names, but {', '.join(arrays.files)}.")
        class_names = [str(name) for name in arrays["class_names"]]
        for split in splits:
            content, offsets, labels = (arrays[f"{split}_{part}"] for part in ("bytes", "offsets", "labels"))
            if split == "train" and validation >= len(labels):
                raise click.BadParameter(f"--validation {validation} leaves nothing of {len(labels)} training images.")
            first_held_out = len(labels) - validation if split == "train" else len(labels)
            with click.progressbar(enumerate(labels), length=len(labels), label=split) as numbered:
                for index, label in numbered:
                    part = split if index < first_held_out else "validation"
                    path = folder / part / class_names[label] / f"{index:05}.jpg"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content[offsets[index] : offsets[index + 1]].tobytes())


if __name__ == "__main__":
    main()
