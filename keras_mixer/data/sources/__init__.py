"""Where labelled images come from: a TFDS dataset, a folder of image files, or the embedded digits."""

import dataclasses

from keras_mixer.data.sources.base import Source
from keras_mixer.dataset import DatasetSpec
from keras_mixer.extras import require

__all__ = ["Source", "load"]


def load(
    dataset: DatasetSpec | str, split: str | None = None, data_dir: str | None = None, label_key: str | None = None
) -> Source:
    """Opens a split of a dataset.

    The embedded digits are prepared on first use, and other TFDS datasets are downloaded.

    Args:
        dataset: A specification, or the name for one (see `DatasetSpec`).
        split: Split expression, "train" by default. It replaces that of a specification.
        data_dir: Where TFDS datasets are stored.
        label_key: The feature that holds the label.

    Returns:
        The source.

    Raises:
        ValueError: If there is no such dataset, split or label (the message lists those that exist), or if it can be
            neither found nor downloaded.
        ImportError: If TensorFlow or TensorFlow Datasets is not installed.

    Example:
        >>> source = keras_mixer.data.load("digits", split="test")
        >>> source.num_examples, len(source.class_names)
        (360, 10)
    """
    spec = dataset if isinstance(dataset, DatasetSpec) else DatasetSpec(dataset)
    given = {"split": split, "data_dir": data_dir, "label_key": label_key}
    spec = dataclasses.replace(spec, **{name: value for name, value in given.items() if value is not None})
    require("tensorflow", "tensorflow_datasets", extra="tensorflow", purpose="Reading datasets")
    if spec.is_folder:
        from keras_mixer.data.sources.folder import FolderSource

        return FolderSource(spec)
    from keras_mixer.data.sources.tfds import TfdsSource

    return TfdsSource(spec)
