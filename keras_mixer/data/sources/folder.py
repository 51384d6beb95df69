"""Sources of image files in folders: `folder/split/class/image.jpg`."""

import copy
import os
import pathlib
import warnings
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_mixer.data.image_files import IMAGE_SUFFIXES
from keras_mixer.data.pixels import attempt
from keras_mixer.data.sources.base import Source, warn_once
from keras_mixer.dataset import DatasetSpec

# JPEGs of a folder whose EXIF orientation is looked at, evenly spread.
ORIENTATION_SAMPLE = 100

_ORIENTATION, _UPRIGHT = 0x0112, (0, 1)  # 0 stands for an unknown orientation


class FolderSource(Source):
    """A split of a folder in the layout of `tfds.folder_dataset.ImageFolder`.

    The classes are the sorted names of the class folders of all splits, as in TFDS. Names that start with a dot are
    ignored. Files other than JPEGs, PNGs and GIFs are left out with a warning; a class without images is an error. Each
    class is spread evenly over a split, so that a slice such as `train[90%:]` has its share of every class.

    Attributes:
        paths: Paths of the image files, in the order of the examples.
        labels: Their labels, int64.
    """

    def __init__(self, spec: DatasetSpec):
        root = pathlib.Path(spec.name).expanduser()
        splits = {path.name: _folders(path) for path in _folders(root)}
        images, others = _files(splits)
        class_names = tuple(sorted({folder.name for folder in images}))
        if not class_names:
            raise ValueError(
                f"{root} {'holds no images' if root.is_dir() else 'is not a folder'}: expected the layout "
                f"{root}/train/CLASS/IMAGE.jpg."
            )
        empty = sorted(set(class_names) - {folder.name for folder, found in images.items() if found})
        if empty:
            raise ValueError(
                f"In {root} these classes have no image: {', '.join(empty)}. Images are files that end in "
                f"{', '.join(IMAGE_SUFFIXES)}; convert others, or remove the folders.{_examples(others)}"
            )
        if others:
            warn_once(f"In {root} {len(others)} files are not JPEG, PNG or GIF and are left out.{_examples(others)}")
        super().__init__(spec, class_names, image_shape=None)
        files: dict[str, list[tuple[str, int]]] = {}  # path and label, by split
        paths: list[str] = []
        labels: list[int] = []
        for split, start, stop in _instructions(spec, splits, images, files, class_names):
            paths += [path for path, _ in files[split][start:stop]]
            labels += [label for _, label in files[split][start:stop]]
        if not paths:
            raise ValueError(f"The split {spec.split!r} of {root} is empty.")
        self.paths = np.array(paths)
        self.labels = np.array(labels, np.int64)
        _warn_of_turned_photos(str(root), paths)

    @property
    def num_examples(self) -> int:
        return len(self.paths)

    def chosen(self, indices: Sequence[int] | np.ndarray) -> "FolderSource":
        part = copy.copy(self)
        part.paths, part.labels = self.paths[indices], self.labels[indices]
        return part

    def examples(self) -> tf.data.Dataset:
        files = tf.data.Dataset.from_tensor_slices((self.paths, self.labels)).enumerate()
        return files.map(self._read, num_parallel_calls=tf.data.AUTOTUNE)

    @tf.autograph.experimental.do_not_convert
    def _read(self, index, path_and_label):
        path, label = path_and_label
        # A file that has gone gives no bytes, and counts as an unreadable image when they are decoded.
        image, _ = attempt(tf.io.read_file, path, tf.constant(b""))
        return {"image": image, "label": label, "index": index}

    def location(self, index: int) -> str:
        return str(self.paths[index])


def _instructions(spec: DatasetSpec, splits, images, files, class_names):
    """Resolves a split expression to triples (split, start, stop), and fills `files` with the files of all splits."""
    labels = {name: label for label, name in enumerate(class_names)}
    for split, folders in splits.items():
        spread: list[tuple[float, int, str]] = []
        for folder in folders:
            found = images[folder]
            spread += [((place + 0.5) / len(found), labels[folder.name], path) for place, path in enumerate(found)]
        files[split] = [(path, label) for _, label, path in sorted(spread)]
    sizes = tfds.core.SplitDict(
        [
            tfds.core.SplitInfo(name=split, shard_lengths=[len(found)], num_bytes=0)
            for split, found in files.items()
            if found
        ]
    )
    try:
        instructions = tfds.core.ReadInstruction.from_spec(spec.split).to_absolute(sizes)
    except (KeyError, ValueError, AssertionError) as error:
        raise ValueError(
            f"{spec.name} has no split {spec.split!r}; it has {', '.join(sizes) or 'none with images'}, and "
            f"expressions of them such as 'train[:90%]'."
        ) from error
    return [(part.splitname, part.from_ or 0, part.to) for part in instructions]


def _folders(path: pathlib.Path) -> list[pathlib.Path]:
    return sorted(child for child in path.iterdir() if child.is_dir() and _shown(child)) if path.is_dir() else []


def _files(splits: dict[str, list[pathlib.Path]]) -> tuple[dict[pathlib.Path, list[str]], list[str]]:
    """Lists the images of each class folder, and the other files there."""
    images: dict[pathlib.Path, list[str]] = {}
    others: list[str] = []
    for folder in (folder for folders in splits.values() for folder in folders):
        with os.scandir(folder) as entries:
            paths = sorted(entry.path for entry in entries if _shown(entry) and not entry.is_dir())
        images[folder] = [path for path in paths if path.lower().endswith(IMAGE_SUFFIXES)]
        others += [path for path in paths if not path.lower().endswith(IMAGE_SUFFIXES)]
    return images, others


def _shown(entry: pathlib.Path | os.DirEntry) -> bool:
    """Returns False for hidden entries, such as `.ipynb_checkpoints` and macOS's `._rose.jpg`."""
    return not entry.name.startswith(".")


def _examples(paths: list[str]) -> str:
    return f" First: {', '.join(paths[:3])}." if paths else ""


def _warn_of_turned_photos(folder: str, paths: Sequence[str]) -> None:
    """Logs a warning if JPEGs among a sample of `paths` have an EXIF orientation other than upright."""
    jpegs = [path for path in paths if path.lower().endswith((".jpg", ".jpeg"))]
    sample = jpegs[:: max(1, -(-len(jpegs) // ORIENTATION_SAMPLE))]
    turned = [path for path in sample if _orientation(path) not in _UPRIGHT]
    if turned:
        warn_once(
            f"{len(turned)} of {len(sample)} JPEGs looked at in {folder} carry an EXIF orientation, such as "
            f"{turned[0]}. It is not applied: the photos are read as they are stored, on their side. Turn them first, "
            f"for example by PIL.ImageOps.exif_transpose."
        )


def _orientation(path: str) -> int:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=("JPEG",)) as image:
                return image.getexif().get(_ORIENTATION, _UPRIGHT[0])
    except Exception:  # damaged files are counted where they are decoded
        return _UPRIGHT[0]
