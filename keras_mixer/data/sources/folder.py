"""Sources of image files in folders: `folder/split/class/image.jpg` or `folder/class/image.jpg`."""

import copy
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from keras_mixer.data.sources.base import Source, no_split, warn_once
from keras_mixer.data.sources.layout import FolderLayout, load_listing, scan
from keras_mixer.data.sources.splits import parts
from keras_mixer.dataset import FILES_FILE, DatasetSpec
from keras_mixer.listing import printable


def layout_of(spec: DatasetSpec) -> FolderLayout:
    """Scans the folder of a dataset, and keeps the list of images that the dataset names.

    Raises:
        ValueError: As `scan`, or if the list is damaged.
        OSError: As `scan`.
    """
    layout = scan(spec.name)
    if spec.files is None:
        return layout
    listing = load_listing(spec.files)
    if listing is None:
        warn_once(
            f"{spec.files} holds no {FILES_FILE} any more, so images that were added since the training move the split "
            f"{spec.split}, which may then hold training images."
        )
        return layout
    return layout.kept(listing)


def images_of_run(dataset: DatasetSpec | None, layout: FolderLayout) -> FolderLayout | None:
    """Returns the images that a run's list names in a folder; None if the `dataset` of its card names no list."""
    listing = None if dataset is None or dataset.files is None else load_listing(dataset.files)
    return None if listing is None else layout.kept(listing)


def is_folder_of_run(dataset: DatasetSpec, folder: str, layout: FolderLayout) -> bool:
    """Returns whether a folder is that of a run's `dataset`, or has all images of the run.

    `layout` is what `images_of_run` returned for the folder.
    """
    same = {os.path.realpath(os.path.expanduser(name)) for name in (dataset.name, folder)}
    return not layout.gone or len(same) == 1


def paths_of(split: str, layout: FolderLayout) -> list[str]:
    """Returns the paths of a split of a folder in their order.

    Raises:
        ValueError: If the folder does not have the split.
    """
    return [path for _, path in _files(DatasetSpec(layout.root, split), layout)]


class FolderSource(Source):
    """A split of a folder of images.

    `scan` finds splits and classes. The classes are the sorted names of the class folders of all splits, as in
    `tfds.folder_dataset.ImageFolder`. A warning names files that are left out. Each class is spread evenly over a
    split, so that a slice such as `train[90%:]` holds its share of each class.

    Args:
        spec: The folder and the split.
        layout: The layout of the folder; None is that of `layout_of`.
        replace_gone: Whether a file of the layout that no longer exists is replaced by the next file of its class, so
            that the order does not change. Otherwise it is left out.
        in_numpy: Whether the images are read without TensorFlow.
    """

    def __init__(
        self,
        spec: DatasetSpec,
        layout: FolderLayout | None = None,
        *,
        replace_gone: bool = False,
        in_numpy: bool = False,
    ):
        self.in_numpy = in_numpy
        layout = layout_of(spec) if layout is None else layout
        if left_out := layout.left_out():
            warn_once(left_out)
        super().__init__(spec, layout.class_names, image_shape=None)
        self.layout = layout
        files = _files(spec, layout)
        if not files:
            raise ValueError(f"The split {spec.split!r} of {layout.root} is empty.")
        self.labels = np.array([label for label, _ in files], np.int64)
        self.paths = np.array([path for _, path in files])
        if layout.gone:
            self._without_gone(layout, replace_gone)

    def _without_gone(self, layout: FolderLayout, replace: bool) -> None:
        gone = np.isin(self.paths, list(layout.gone))
        if not replace:
            self.paths, self.labels = self.paths[~gone], self.labels[~gone]
            return
        for place in np.flatnonzero(gone):
            same = np.flatnonzero(~gone & (self.labels == self.labels[place]))
            if not len(same):
                name = self.class_names[self.labels[place]]
                raise ValueError(f"All images of the class {name} are gone from {layout.root}.")
            self.paths[place] = self.paths[same[np.searchsorted(same, place) % len(same)]]

    @property
    def num_examples(self) -> int:
        return len(self.paths)

    @property
    def file_names(self) -> list[bytes]:
        """The paths in the operating system's encoding, because not all of them are UTF-8."""
        return [os.fsencode(path) for path in self.paths]

    def chosen(self, indices: Sequence[int] | np.ndarray) -> "FolderSource":
        part = copy.copy(self)
        part.paths, part.labels = self.paths[indices], self.labels[indices]
        return part

    def read(self, index: int) -> bytes:
        return pathlib.Path(self.paths[index]).read_bytes()

    def examples(self):
        import tensorflow as tf

        from keras_mixer.data.pixels import attempt

        @tf.autograph.experimental.do_not_convert
        def read(index, path_and_label):
            path, label = path_and_label
            # A missing file gives no bytes, and decoding them counts an unreadable image.
            image, _ = attempt(tf.io.read_file, path, tf.constant(b""))
            return {"image": image, "label": label, "index": index}

        files = tf.data.Dataset.from_tensor_slices((self.file_names, self.labels)).enumerate()
        return files.map(read, num_parallel_calls=tf.data.AUTOTUNE)

    def location(self, index: int) -> str:
        return printable(str(self.paths[index]))


def _files(spec: DatasetSpec, layout: FolderLayout) -> list[tuple[int, str]]:
    """Returns label and path of every image of a split expression."""
    named = layout.resolve(spec.split)
    try:
        return [file for name, part in parts(named, layout.sizes) for file in layout.files(name)[part]]
    except (KeyError, ValueError) as error:
        raise no_split(spec, layout.sizes, layout.left_out()) from error
