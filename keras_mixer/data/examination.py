"""Examines a dataset before training: classes, formats, sizes, unreadable images and duplicates."""

import collections
import dataclasses
import functools
import hashlib
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from keras_mixer.cores import usable_cores
from keras_mixer.data.arrays import in_order
from keras_mixer.data.sources import load, split_sizes
from keras_mixer.data.sources.layout import FolderLayout, scan
from keras_mixer.dataset import DatasetSpec
from keras_mixer.extras import require
from keras_mixer.images import declared_size, decode, image_format, orientation
from keras_mixer.listing import printable

HEADERS = 1000  # largest number of files whose headers are read to describe a folder
_HEADER_BYTES = 2**18
# Two images are near duplicates if their hashes differ in so many of 64 bits, and their thumbnails by so many levels of
# 255 on average. If three bits differ, one of the four parts of the hash is equal.
_BITS, _LEVELS = 3, 8.0
_THUMBNAIL, _HASHED = (18, 16), (8, 9)  # width and height; rows and columns
_SHEET_ROWS, _SHEET_COLUMNS, _SHEET_SIDE = 24, 8, 96  # classes, images of each, and pixels of their longer side


@dataclasses.dataclass(frozen=True)
class Examined:
    """One image.

    Attributes:
        place: Its path, or its number in a TFDS dataset.
        split: Its split.
        label: Name of its class.
        format: Name of the format, such as "JPEG"; None if it is unknown.
        size: Width and height as stored, in pixels; None if the header cannot be read.
        orientation: EXIF orientation, 1 (upright) to 8.
        problem: Why it cannot be read; None if it can be read.
        digest: Hash of its bytes.
        thumbnail: uint8 `(16, 18, 3)`; None if it cannot be read.
        path: `place`, but with the bytes of a name that is not UTF-8.
    """

    place: str
    split: str
    label: str
    format: str | None
    size: tuple[int, int] | None
    orientation: int
    problem: str | None
    digest: bytes
    thumbnail: np.ndarray | None
    path: str = ""


@dataclasses.dataclass(frozen=True)
class Duplicates:
    """A group of images that show the same picture.

    Attributes:
        exact: Whether all are equal byte by byte.
        places: Their paths, or their numbers in a TFDS dataset.
        splits: Their splits, without repeats. If there are several, evaluation may use training images.
        labels: Their classes, without repeats. If there are several, some images are in a wrong class.
    """

    exact: bool
    places: tuple[str, ...]
    splits: tuple[str, ...]
    labels: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class DatasetReport:
    """The contents of a dataset.

    Attributes:
        name: The dataset.
        images: All images, in the order of their splits.
        duplicates: Groups of images that show the same picture.
        left_out: A sentence about other files in a folder; empty if there are none.
    """

    name: str
    images: tuple[Examined, ...]
    duplicates: tuple[Duplicates, ...]
    left_out: str = ""

    @property
    def unreadable(self) -> list[Examined]:
        """The images that cannot be read."""
        return [image for image in self.images if image.problem is not None]

    def counts(self) -> dict[str, dict[str, int]]:
        """Returns the number of images by class and split."""
        splits = dict.fromkeys((image.split for image in self.images), 0)
        counts: dict[str, dict[str, int]] = {}
        for image in sorted(self.images, key=lambda image: image.label):
            counts.setdefault(image.label, dict(splits))[image.split] += 1
        return counts

    def formats(self) -> dict[str, int]:
        """Returns the number of images of each format, the most frequent first."""
        return dict(collections.Counter(image.format or "unknown" for image in self.images).most_common())

    def turned(self) -> int:
        """Returns the number of images that are stored turned or mirrored."""
        return sum(image.orientation != 1 for image in self.images)

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Returns width and height of the smallest, the median and the largest image."""
        sizes = sorted((image.size for image in self.images if image.size), key=lambda size: size[0] * size[1])
        return {"smallest": sizes[0], "median": sizes[len(sizes) // 2], "largest": sizes[-1]} if sizes else {}

    def to_dict(self) -> dict:
        """Returns the report as JSON values."""
        return {
            "name": self.name,
            "images": len(self.images),
            "classes": self.counts(),
            "formats": self.formats(),
            "turned": self.turned(),
            "sizes": self.sizes(),
            "unreadable": [{"image": image.place, "problem": image.problem} for image in self.unreadable],
            "duplicates": [dataclasses.asdict(group) for group in self.duplicates],
            "left_out": self.left_out,
        }


def examine(dataset: str, data_dir: str | None = None, progress: Callable[[int], None] | None = None) -> DatasetReport:
    """Reads all images of a dataset and reports what it contains.

    Args:
        dataset: A TFDS name, or a folder of images.
        data_dir: Folder of the TFDS datasets.
        progress: Function that is called with the number of images read so far.

    Raises:
        ValueError: If there is no such dataset, or it holds no images.
        ImportError: If Pillow, or a package that a TFDS dataset needs, is not installed.

    Example:
        >>> report = keras_mixer.data.examine("./photos")
        >>> [group.places for group in report.duplicates if len(group.splits) > 1]
    """
    require("PIL", extra="pipelines", purpose="Examining images")
    spec = DatasetSpec(dataset, data_dir=data_dir)
    layout = scan(spec.name) if spec.is_folder else None
    examples = _of_tfds(spec) if layout is None else _of_folder(layout)
    images = []
    for image in in_order(lambda example: _examined(*example), examples, 2 * usable_cores()):
        images.append(image)
        if progress is not None:
            progress(len(images))
    return DatasetReport(
        dataset, tuple(images), tuple(find_duplicates(images)), "" if layout is None else layout.left_out()
    )


def headers(layout: FolderLayout) -> str:
    """Describes formats, sizes and orientations of the images in a folder, from at most 1,000 headers."""
    paths = [path for found in layout.images.values() for path in found]
    seen = []
    for path in paths[:: max(1, -(-len(paths) // HEADERS))]:
        try:
            with open(path, "rb") as file:
                seen.append(_header(file.read(_HEADER_BYTES)))
        except OSError:
            seen.append((None, None, 1))
    images = [Examined("", "", "", *header, None, b"", None) for header in seen]
    report = DatasetReport(layout.root, tuple(images), ())
    formats = ", ".join(f"{count:,} {name}" for name, count in report.formats().items())
    sizes = dict.fromkeys(f"{width} x {height}" for width, height in report.sizes().values())
    across = f", {' to '.join([*sizes][:: max(1, len(sizes) - 1)])} pixels" if sizes else ""
    turned = f", {report.turned():,} stored turned" if report.turned() else ""
    return f"{len(seen):,} of {len(paths):,} headers read: {formats}{across}{turned}."


def _of_folder(layout: FolderLayout) -> Iterator[tuple[str, str, str, Callable[[], bytes]]]:
    for (split, label), paths in sorted(layout.images.items()):
        for path in paths:
            yield path, split, label, pathlib.Path(path).read_bytes


def _of_tfds(spec: DatasetSpec) -> Iterator[tuple[str, str, str, Callable[[], bytes]]]:
    for split in split_sizes(spec):
        source = load(spec, split=split)
        if source.in_numpy:
            for index, label in enumerate(source.labels):
                yield source.location(index), split, source.class_names[label], functools.partial(source.read, index)
            continue
        for example in source.examples().as_numpy_iterator():
            label, data = source.class_names[example["label"]], example["image"]
            yield source.location(int(example["index"])), split, label, functools.partial(bytes, data)


def _header(data: bytes) -> tuple[str | None, tuple[int, int] | None, int]:
    try:
        return image_format(data), declared_size(data), orientation(data)
    except (ValueError, ImportError):
        return image_format(data), None, 1


def _examined(place: str, split: str, label: str, reading: Callable[[], bytes]) -> Examined:
    try:
        data = reading()
    except OSError as error:
        return Examined(printable(place), split, label, None, None, 1, str(error), b"", None)
    header, problem, thumbnail = _header(data), None, None
    try:
        thumbnail = _resized(decode(data), _THUMBNAIL)
    except (ValueError, ImportError) as error:
        problem = str(error)
    return Examined(printable(place), split, label, *header, problem, hashlib.sha256(data).digest(), thumbnail, place)


def _resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))


def find_duplicates(images: Sequence[Examined]) -> list[Duplicates]:
    """Groups readable images whose hashes and thumbnails are nearly equal, as are those of equal files."""
    readable = [(image, image.thumbnail) for image in images if image.thumbnail is not None]
    groups: dict[int, list[Examined]] = {}
    for (image, _), number in zip(readable, _near_groups([thumbnail for _, thumbnail in readable]), strict=True):
        groups.setdefault(int(number), []).append(image)
    return [
        Duplicates(
            len({image.digest for image in group}) == 1,
            tuple(image.place for image in group),
            tuple(dict.fromkeys(image.split for image in group)),
            tuple(dict.fromkeys(image.label for image in group)),
        )
        for group in groups.values()
        if len(group) > 1
    ]


def _near_groups(images: Sequence[np.ndarray]) -> np.ndarray:
    """Returns a number for each thumbnail `(16, 18, 3)`, the same for those that chains of near duplicates connect."""
    groups = np.arange(len(images))
    if not images:
        return groups
    thumbnails = np.stack(images)
    grey = thumbnails.reshape(-1, _HASHED[0], 2, _HASHED[1], 2, 3).mean(axis=(2, 4, 5), dtype=np.float32)
    bits = np.packbits((grey[:, :, 1:] > grey[:, :, :-1]).reshape(-1, 64), axis=1)  # (n, 8)
    for part in range(_BITS + 1):
        quarter = np.ascontiguousarray(bits[:, 2 * part : 2 * part + 2]).view(np.uint16)[:, 0]
        order = np.argsort(quarter, kind="stable")
        for same in np.split(order, np.flatnonzero(np.diff(quarter[order])) + 1):
            for place, one in enumerate(same[:-1]):
                others = same[place + 1 :]
                others = others[groups[others] != groups[one]]
                others = others[np.unpackbits(bits[others] ^ bits[one], axis=1).sum(axis=1) <= _BITS]
                levels = np.abs(thumbnails[others].astype(np.float32) - thumbnails[one]).mean(axis=(1, 2, 3))
                joined = groups[others[levels <= _LEVELS]]
                groups[np.isin(groups, joined)] = groups[one]
    return groups


def save_contact_sheet(report: DatasetReport, path: str | os.PathLike) -> pathlib.Path:
    """Draws up to eight images of each class of a folder, upright, for the first 24 classes.

    Args:
        report: What `examine` returned for a folder.
        path: File to write. Its suffix (.png, .pdf, .svg) selects the format.

    Raises:
        ValueError: If the report is not of a folder, or no image can be read.
        ImportError: If Matplotlib is not installed.
    """
    require("matplotlib", extra="pipelines", purpose="Drawing")
    from matplotlib.figure import Figure

    from keras_mixer.fonts import drawable

    rows: dict[str, list[Examined]] = {}
    for image in report.images:
        if image.problem is None and os.path.exists(image.path):
            rows.setdefault(image.label, []).append(image)
    if not rows:
        raise ValueError(f"A contact sheet is drawn of a folder with images, but {report.name} has none to draw.")
    labels = sorted(rows)[:_SHEET_ROWS]
    titles, families = drawable([f"{label} ({len(rows[label]):,})" for label in labels])
    figure = Figure(figsize=(1.1 * _SHEET_COLUMNS, 1.4 * len(labels)), layout="constrained")
    panels = figure.subplots(len(labels), _SHEET_COLUMNS, squeeze=False)
    for label, title, panel in zip(labels, titles, panels, strict=True):
        found = rows[label]
        spread = np.linspace(0, len(found) - 1, min(len(found), _SHEET_COLUMNS)).round().astype(int)
        for axes in panel:
            axes.set_axis_off()
        for axes, place in zip(panel, spread, strict=False):
            pixels = decode(pathlib.Path(found[place].path).read_bytes())
            height, width = (max(1, round(_SHEET_SIDE * side / max(pixels.shape))) for side in pixels.shape[:2])
            axes.imshow(_resized(pixels, (width, height)))
        panel[0].set_title(title, loc="left", fontsize=9, family=families)
    target = pathlib.Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=110)
    return target
