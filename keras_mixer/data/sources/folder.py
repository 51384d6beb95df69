"""Sources of image files in folders: `folder/split/class/image.jpg`."""

import copy
import os
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_mixer.data.pixels import attempt
from keras_mixer.data.sources.base import Source, no_split, warn_once
from keras_mixer.dataset import DatasetSpec
from keras_mixer.images import IMAGE_SUFFIXES

_SHOWN = "[!.]*"  # not `.ipynb_checkpoints`, nor macOS's `._rose.jpg`


class FolderSource(Source):
    """A split of a folder in the layout of `tfds.folder_dataset.ImageFolder`.

    The classes are the sorted names of the class folders of all splits, as in TFDS. Names that start with a dot do not
    count. Files without a suffix of an image are left out with a warning. A class without images is an error. Each
    class is spread evenly over a split, so that a slice such as `train[90%:]` has its share of every class.
    """

    def __init__(self, spec: DatasetSpec):
        root = pathlib.Path(spec.name).expanduser()
        images, others = _scan(root)
        class_names = tuple(sorted({name for _, name in images}))
        if not class_names:
            raise ValueError(
                f"{root} {'holds no images' if root.is_dir() else 'is not a folder'}: expected the layout "
                f"{root}/train/CLASS/IMAGE.jpg."
            )
        first = f" First: {', '.join(others[:3])}." if others else ""
        empty = sorted(set(class_names) - {name for (_, name), found in images.items() if found})
        if empty:
            raise ValueError(
                f"In {root} these classes have no image: {', '.join(empty)}. Images are files that end in "
                f"{', '.join(IMAGE_SUFFIXES)}: convert the others, or remove the folders.{first}"
            )
        if others:
            warn_once(f"In {root} {len(others)} files have no suffix of an image and are left out.{first}")
        super().__init__(spec, class_names, image_shape=None)
        splits: dict[str, list[tuple[float, int, str]]] = {}  # (place in the split, label, path)
        labels = {name: label for label, name in enumerate(class_names)}
        for (split, name), found in images.items():
            splits.setdefault(split, []).extend(
                ((place + 0.5) / len(found), labels[name], path) for place, path in enumerate(found)
            )
        files = [file for name, part in _parts(spec, splits) for file in sorted(splits[name])[part]]
        if not files:
            raise ValueError(f"The split {spec.split!r} of {root} is empty.")
        self.paths = np.array([path for _, _, path in files])
        self.labels = np.array([label for _, label, _ in files], np.int64)

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
        # A missing file gives no bytes, and decoding them counts an unreadable image.
        image, _ = attempt(tf.io.read_file, path, tf.constant(b""))
        return {"image": image, "label": label, "index": index}

    def location(self, index: int) -> str:
        return str(self.paths[index])


def _parts(spec: DatasetSpec, splits: dict[str, list]) -> list[tuple[str, slice]]:
    """Resolves a split expression to the names of splits, each with a slice of its files."""
    sizes = tfds.core.SplitDict(
        [
            tfds.core.SplitInfo(name=name, shard_lengths=[len(files)], num_bytes=0)
            for name, files in splits.items()
            if files
        ]
    )
    try:
        instructions = tfds.core.ReadInstruction.from_spec(spec.split).to_absolute(sizes)
    except (KeyError, ValueError, AssertionError) as error:
        raise no_split(spec, sizes) from error
    return [(part.splitname, slice(part.from_ or 0, part.to)) for part in instructions]


def _scan(root: pathlib.Path) -> tuple[dict[tuple[str, str], list[str]], list[str]]:
    """Lists the images by split and class, and the other files."""
    images: dict[tuple[str, str], list[str]] = {}
    others: list[str] = []
    for folder in sorted(root.glob(f"{_SHOWN}/{_SHOWN}/")):
        with os.scandir(folder) as entries:  # knows folders from files without asking again for each
            paths = sorted(e.path for e in entries if not e.name.startswith(".") and not e.is_dir())
        images[folder.parent.name, folder.name] = [path for path in paths if path.lower().endswith(IMAGE_SUFFIXES)]
        others += [path for path in paths if not path.lower().endswith(IMAGE_SUFFIXES)]
    return images, others
