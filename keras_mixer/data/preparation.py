"""Writes a clean copy of a folder of images: upright, of moderate size, readable by every tool, and in splits."""

import concurrent.futures
import os
import pathlib
from collections.abc import Mapping, Sequence

from keras_mixer.data.examination import DatasetReport, Examined
from keras_mixer.data.sources.layout import TEST, TRAIN, VALIDATION, in_role, role
from keras_mixer.dataset import DatasetSpec
from keras_mixer.extras import require
from keras_mixer.images import decode
from keras_mixer.shapes import positive_integer

SIDE = 1024  # pixels
_PART = 10  # of this many images of a class, one is for validation and one for testing
_QUALITY = 95


def prepare(report: DatasetReport, output: str | os.PathLike, side: int = SIDE) -> dict[str, int]:
    """Writes the readable images of a folder as upright JPEGs to `train`, `validation` and `test` folders of classes.

    If the folder has a validation or test split, its splits are kept. Otherwise a tenth of each class is for validation
    and a tenth for testing. Images that show the same picture go into one split: the first of `train`, `validation` and
    `test` that holds one of them.

    Args:
        report: The report of `keras_mixer.data.examine` on the folder.
        output: The folder to write, new or empty.
        side: Largest width and height of a copy, in pixels.

    Returns:
        Number of images of each split.

    Raises:
        ValueError: If the report is not of a folder, the output is not empty or is inside the folder, or a class has
            fewer than three different images.
        ImportError: If Pillow is not installed.

    Example:
        >>> report = keras_mixer.data.examine("./photos")
        >>> keras_mixer.data.prepare(report, "./photos_clean")
        {'train': 240, 'validation': 30, 'test': 30}
    """
    side = positive_integer("side", side)
    require("PIL", extra="pipelines", purpose="Writing images")
    if not DatasetSpec(report.name).is_folder:
        raise ValueError(f"{report.name} is not a folder of images: only such a folder can be prepared.")
    folder, source = pathlib.Path(os.path.expanduser(output)), pathlib.Path(os.path.expanduser(report.name))
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty: choose a new folder.")
    if folder.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"{folder} lies in {source}, where its images would count again: choose a folder outside.")
    readable = [image for image in report.images if image.problem is None]
    splits = _splits(report, readable)
    taken: set[str] = set()
    jobs = []
    for image in readable:
        stem = os.path.join(splits[image.place], image.label, pathlib.Path(image.place).stem)
        number, name = 1, stem
        while name.casefold() in taken:
            number, name = number + 1, f"{stem}_{number + 1}"
        taken.add(name.casefold())
        jobs.append((image.path, folder / f"{name}.jpg", side))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(lambda job: _write(*job), jobs))
    written = list(splits.values())
    return {split: written.count(split) for split in (TRAIN, VALIDATION, TEST) if split in written}


def _splits(report: DatasetReport, images: Sequence[Examined]) -> Mapping[str, str]:
    """Chooses a split for each image. Images that show the same picture get the same split."""
    unit_of = {place: group.places[0] for group in report.duplicates for place in group.places}
    units: dict[str, list[Examined]] = {}
    for image in images:
        units.setdefault(unit_of.get(image.place, image.place), []).append(image)
    given = {image.split for image in images}
    if in_role(given, VALIDATION) or in_role(given, TEST):
        order = (TRAIN, VALIDATION, TEST)
        chosen = {
            unit: min((role(image.split) or TRAIN for image in members), key=order.index)
            for unit, members in units.items()
        }
    else:
        chosen = {}
        by_class: dict[str, list[str]] = {}
        for unit, members in units.items():
            by_class.setdefault(members[0].label, []).append(unit)
        for label, names in by_class.items():
            if len(names) < 3:
                raise ValueError(f"The class {label} has {len(names)} different images, too few for three splits.")
            held_out = max(1, len(names) // _PART)
            chosen |= dict.fromkeys(names, TRAIN)
            for number in range(held_out):  # evenly spread
                chosen[names[(2 * number + 1) * len(names) // (2 * held_out)]] = VALIDATION
                chosen[names[(number + 1) * len(names) // held_out - 1]] = TEST
    return {image.place: chosen[unit] for unit, members in units.items() for image in members}


def _write(path: str, target: pathlib.Path, side: int) -> None:
    from PIL import Image

    image = Image.fromarray(decode(pathlib.Path(path).read_bytes()))
    image.thumbnail((side, side))
    target.parent.mkdir(parents=True, exist_ok=True)
    image.save(target, quality=_QUALITY)
