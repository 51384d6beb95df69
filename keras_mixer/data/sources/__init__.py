"""Sources of labelled images: TFDS datasets, folders of image files, and the embedded digits."""

import dataclasses
import os

from keras_mixer.data.sources.base import Source
from keras_mixer.data.sources.embedded import EmbeddedDigits, embedded_digits
from keras_mixer.data.sources.folder import FolderSource, layout_of
from keras_mixer.data.sources.layout import FolderLayout, not_a_folder
from keras_mixer.dataset import DatasetSpec
from keras_mixer.extras import installed, require

DIGITS = "digits"


def load(
    dataset: DatasetSpec | str, split: str | None = None, data_dir: str | None = None, label_key: str | None = None
) -> Source:
    """Opens a split of a dataset. TFDS datasets are downloaded or prepared on first use.

    Args:
        dataset: A specification, or the name of a dataset (see `DatasetSpec`).
        split: Split expression that replaces the specification's. For a name, the default is "train".
        data_dir: Replaces the specification's `data_dir`.
        label_key: Replaces the specification's `label_key`.

    Raises:
        ValueError: If there is no such dataset, split or label, or the dataset can be neither found nor downloaded.
        ImportError: If it is a dataset of TFDS, and TensorFlow or TensorFlow Datasets is not installed.

    Example:
        >>> source = keras_mixer.data.load("digits", split="test")
        >>> source.num_examples, len(source.class_names)
        (360, 10)
    """
    spec = dataset if isinstance(dataset, DatasetSpec) else DatasetSpec(dataset)
    given = {"split": split, "data_dir": data_dir, "label_key": label_key}
    spec = dataclasses.replace(spec, **{name: value for name, value in given.items() if value is not None})
    return open_source(spec)


def open_source(
    spec: DatasetSpec, layout: FolderLayout | None = None, *, replace_gone: bool = False, in_numpy: bool | None = None
) -> Source:
    """Opens a split of a dataset; the arguments from `layout` on are those of `FolderSource`.

    The images of folders and the digits are read without TensorFlow if `in_numpy`, and by default if TensorFlow is not
    installed.
    """
    if in_numpy is None:
        in_numpy = not installed("tensorflow", "tensorflow_datasets")
    if spec.is_folder:
        return FolderSource(spec, layout, replace_gone=replace_gone, in_numpy=in_numpy)
    if spec.name == DIGITS and in_numpy:
        return EmbeddedDigits(spec)
    _require(spec)
    from keras_mixer.data.sources.tfds import TfdsSource

    return TfdsSource(spec)


def split_sizes(spec: DatasetSpec) -> dict[str, int]:
    """Returns the number of images of every split of a dataset. The split of `spec` is ignored."""
    if spec.is_folder:
        return layout_of(spec).sizes
    if spec.name == DIGITS:
        return {name: len(numbers) for name, numbers in embedded_digits()[2].items()}
    _require(spec)
    from keras_mixer.data.sources.tfds import prepared

    return {name: split.num_examples for name, split in prepared(spec).info.splits.items()}


def _require(spec: DatasetSpec) -> None:
    if "." in spec.name and os.path.isfile(spec.name):
        raise not_a_folder(spec.name)
    hint = f"There is no folder {spec.name}."
    if os.path.isdir(spec.name):
        hint = f"To name the folder, write ./{spec.name}."
    purpose = f"{hint} Reading a dataset of this name from TensorFlow Datasets"
    require("tensorflow", "tensorflow_datasets", extra="tensorflow", purpose=purpose)
