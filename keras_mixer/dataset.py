"""The description of a dataset and of one of its splits."""

import dataclasses
import os

FILES_FILE = "files.json.gz"  # file in a run folder that lists the images that the run began with


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """Describes a split of a dataset, so that it can be opened again.

    Args:
        name: A TFDS name ("cifar10", "imagenet2012", "cifar10_corrupted/fog_3"), the embedded "digits", or a folder
            in the layout `folder/split/class/image.jpg` or `folder/class/image.jpg`. The name of a folder must contain
            a path separator ("./flowers", "/data/flowers") or be a `pathlib.Path`.
        split: A TFDS split expression: "train", "train[:90%]", "train[10%:]+validation". It works for folders too.
            There "validation" also finds `val`, `valid` and `dev`, and a folder without splits is all "train".
        data_dir: Where TFDS datasets are stored; None for TFDS's own default. Folders ignore it.
        label_key: The feature that holds the label, if a TFDS dataset has several; None for the usual one.
        files: For a folder, the run folder whose list of images the split is taken of. Images that were added later
            would shift the border of a slice such as "train[90%:]", so that it held training images.

    Raises:
        ValueError: If the name or the split is empty or not a string.
    """

    name: str
    split: str = "train"
    data_dir: str | None = None
    label_key: str | None = None
    files: str | None = None

    def __post_init__(self):
        if isinstance(self.name, os.PathLike):
            object.__setattr__(self, "name", os.path.join(os.curdir, os.path.expanduser(self.name)))
        for field in ("name", "split"):
            if not isinstance(getattr(self, field), str) or not getattr(self, field):
                raise ValueError(f"`{field}` of a dataset must be a non-empty string, not {getattr(self, field)!r}.")

    @property
    def is_folder(self) -> bool:
        """Whether `name` is a folder of images rather than a TFDS name."""
        path = os.path.expanduser(self.name)
        return os.path.isabs(path) or path.startswith(".") or (os.sep in path and os.path.isdir(path))
