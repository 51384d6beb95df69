"""Sources of labelled images: TFDS datasets, folders of image files, and the embedded digits."""

import dataclasses

from keras_mixer.data.sources.base import Source
from keras_mixer.data.sources.layout import Layout, scan
from keras_mixer.dataset import DatasetSpec
from keras_mixer.extras import require


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
        ImportError: If TensorFlow or TensorFlow Datasets is not installed.

    Example:
        >>> source = keras_mixer.data.load("digits", split="test")
        >>> source.num_examples, len(source.class_names)
        (360, 10)
    """
    spec = dataset if isinstance(dataset, DatasetSpec) else DatasetSpec(dataset)
    given = {"split": split, "data_dir": data_dir, "label_key": label_key}
    spec = dataclasses.replace(spec, **{name: value for name, value in given.items() if value is not None})
    if spec.is_folder:
        return load_folder(spec)
    _require()
    from keras_mixer.data.sources.tfds import TfdsSource

    return TfdsSource(spec)


def load_folder(spec: DatasetSpec, layout: Layout | None = None, *, replace_gone: bool = False) -> Source:
    """Opens a split of a folder; the arguments are those of `FolderSource`, which needs TensorFlow."""
    _require()
    from keras_mixer.data.sources.folder import FolderSource

    return FolderSource(spec, layout, replace_gone=replace_gone)


def split_sizes(spec: DatasetSpec) -> dict[str, int]:
    """Returns the number of images of every split of a dataset. The split of `spec` is ignored."""
    if spec.is_folder:
        return scan(spec.name).sizes
    _require()
    from keras_mixer.data.sources.tfds import prepared

    return {name: split.num_examples for name, split in prepared(spec).info.splits.items()}


def _require() -> None:
    require("tensorflow", "tensorflow_datasets", extra="tensorflow", purpose="Reading datasets")
