"""Sources of image files in folders: `folder/split/class/image.jpg`."""

import copy
import os
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_mixer.data.corrupt import attempt
from keras_mixer.data.sources import DatasetSpec, Source

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


class FolderSource(Source):
    """A split of a folder in the layout of `tfds.folder_dataset.ImageFolder`.

    Classes are the sorted names of the class folders of all splits, as there; other files than images are passed over.
    The files of each class are spread evenly over a split, so that a slice such as `train[90%:]` has its share of each.

    Attributes:
        paths: Paths of the files, each class's sorted by name.
        labels: Their labels, int64.
    """

    def __init__(self, spec: DatasetSpec):
        root = pathlib.Path(spec.name).expanduser()
        splits = {path.name: _folders(path) for path in _folders(root)}
        class_names = tuple(sorted({folder.name for folders in splits.values() for folder in folders}))
        if not class_names:
            raise ValueError(
                f"{root} {'holds no images' if root.is_dir() else 'is not a folder'}: expected the layout "
                f"{root}/train/CLASS/IMAGE.jpg."
            )
        super().__init__(spec, class_names, image_shape=None)
        files: dict[str, list[tuple[str, int]]] = {}  # of each split that the expression names
        paths: list[str] = []
        labels: list[int] = []
        for split, start, stop in _instructions(spec, splits, files, class_names):
            paths += [path for path, _ in files[split][start:stop]]
            labels += [label for _, label in files[split][start:stop]]
        if not paths:
            raise ValueError(f"The split {spec.split!r} of {root} is empty.")
        self.paths = np.array(paths)
        self.labels = np.array(labels, np.int64)

    @property
    def num_examples(self) -> int:
        return len(self.paths)

    def chosen(self, indices: Sequence[int] | np.ndarray) -> "FolderSource":
        part = copy.copy(self)
        part.paths, part.labels = self.paths[indices], self.labels[indices]
        return part

    def examples(self) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices((self.paths, self.labels)).enumerate().map(self._read)

    def _read(self, index, path_and_label):
        path, label = path_and_label
        # Of a file that is gone come no bytes, which cannot be decoded: it counts as any unreadable image.
        image, _ = attempt(tf.io.read_file, path, tf.constant(b""))
        return {"image": image, "label": label, "index": index}

    def location(self, index: int) -> str:
        return str(self.paths[index])


def _instructions(spec: DatasetSpec, splits, files, class_names):
    """Lists (split, start, stop) of a split expression; fills `files` with the splits' sorted files."""
    labels = {name: label for label, name in enumerate(class_names)}
    for split, folders in splits.items():
        spread: list[tuple[float, int, str]] = []
        for folder in folders:
            images = _images(folder)
            spread += [((place + 0.5) / len(images), labels[folder.name], path) for place, path in enumerate(images)]
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
    return sorted(child for child in path.iterdir() if child.is_dir()) if path.is_dir() else []


def _images(folder: pathlib.Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.path for entry in entries if entry.name.lower().endswith(IMAGE_SUFFIXES))
