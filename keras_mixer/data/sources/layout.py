"""Finds the splits and classes of a folder of images, without opening the images.

The top folders are splits if all top folders with images have names such as `train`, `val` and `test`, in upper or
lower case, and the training split contains class folders. Longer names such as `seg_train` and `test_set` are splits
if they hold the same classes. Otherwise the top folders are classes, and the whole folder is one split, `train`. The
images of a class may be in subfolders, and those of a split in a folder of its name, such as `train/train`.
"""

import dataclasses
import functools
import gzip
import json
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Set

from keras_mixer.dataset import FILES_FILE
from keras_mixer.files import written_whole
from keras_mixer.listing import Folder, counted, is_picture, plural, printable, read_folder

TRAIN, VALIDATION, TEST = "train", "validation", "test"
_ROLES = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("validation", "validate", "val", "valid", "dev"), VALIDATION),
    **dict.fromkeys(("evaluation", "eval", "holdout"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_NAME = re.compile(r"(?:^|(?<=\+))\s*([^\[+]+?)\s*(?=\[|\+|$)")  # of a split in an expression such as "train[:90%]+val"


def role(split: str) -> str | None:
    """Returns what a split of this name is used for: "train", "validation" or "test"; None for another name.

    A longer name has the role of the one word in it that has a role: "seg_train", "TestData" and "val2017".
    """
    roles = {_ROLES.get(word.casefold()) for word in (split, *_WORD.findall(split))} - {None}
    return roles.pop() if len(roles) == 1 else None


def in_role(splits: Iterable[str], wanted: str) -> list[str]:
    """Returns the splits that have the role `wanted`, without those of longer names if one is called by its role."""
    found = [split for split in splits if role(split) == wanted]
    return [split for split in found if is_called_by_role(split)] or found


@dataclasses.dataclass(frozen=True)
class FolderLayout:
    """The images of a folder by split and class.

    Attributes:
        root: The folder.
        images: Paths of the images of each (split, class), sorted unless they are `arranged`.
        divided: Whether the folder has splits. Otherwise all images are in the split `train`.
        empty: Class folders of the training split without images.
        unlabelled: Images outside class folders, which are left out.
        others: Files that are not taken for images.
        gone: Paths in `images` that no longer exist.
        added: Number of images in the folder that are not in `images`.
    """

    root: str
    images: Mapping[tuple[str, str], list[str]]
    divided: bool
    empty: tuple[str, ...] = ()
    unlabelled: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    gone: frozenset[str] = frozenset()
    added: int = 0

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        """The sorted names of the classes of all splits."""
        return tuple(sorted({name for _, name in self.images}))

    @functools.cached_property
    def sizes(self) -> dict[str, int]:
        """Number of images of each split."""
        sizes: dict[str, int] = {}
        for (split, _), paths in self.images.items():
            sizes[split] = sizes.get(split, 0) + len(paths)
        return sizes

    def inner_folders(self) -> dict[str, set[str]]:
        """Returns the names of the folders in each class's folder, for a folder without splits."""
        inner: dict[str, set[str]] = {}
        for (_, name), paths in self.images.items():
            parts = [os.path.relpath(path, self.root).split(os.sep) for path in paths]
            inner[name] = {part[1] for part in parts if len(part) > 2}
        return inner

    def files(self, split: str) -> list[tuple[int, str]]:
        """Returns label and path of every image of a split, with each class spread evenly."""
        labels = {name: label for label, name in enumerate(self.class_names)}
        placed = [
            ((place + 0.5) / len(paths), labels[name], path)
            for (part, name), paths in self.images.items()
            if part == split
            for place, path in enumerate(paths)
        ]
        return [(label, path) for _, label, path in sorted(placed)]

    def named(self, expression: str) -> set[str]:
        """Returns the splits that an expression names, such as "train[:90%]+valid"."""
        return set(_NAME.findall(self.resolve(expression)))

    def resolve(self, expression: str) -> str:
        """Replaces the names in a split expression by the folder's names, such as "validation[:10]" by "valid[:10]".

        Raises:
            ValueError: If several folders could be meant.
        """

        def folder(match: re.Match) -> str:
            name = match[1]
            known = name in self.sizes or not is_called_by_role(name)
            found = [name] if known else in_role(self.sizes, str(role(name)))
            if len(found) > 1:
                raise ValueError(f"The split {name!r} of {self.root} could be {' or '.join(found)}: name one of them.")
            return found[0] if found else name

        return _NAME.sub(folder, expression)

    def left_out(self) -> str:
        """Returns a sentence that counts the files that are left out, by kind; an empty string if there are none."""
        parts = []
        if self.unlabelled:
            folders = sorted({os.path.relpath(os.path.dirname(path), self.root) for path in self.unlabelled})
            named = printable(", ".join("the folder itself" if name == "." else name for name in folders[:3]))
            parts.append(
                f"{plural(len(self.unlabelled), 'image')} outside of class folders (in {named}"
                f"{', ...' if len(folders) > 3 else ''})"
            )
        if self.others:
            parts.append(counted(self.others))
        return f"Left out of {printable(self.root)}: {', '.join(parts)}." if parts else ""

    def listing(self) -> dict:
        """Returns the images as JSON values, for `kept`."""
        return {
            "divided": self.divided,
            "images": [
                {"split": split, "class": name, "files": [os.path.relpath(path, self.root) for path in paths]}
                for (split, name), paths in self.images.items()
            ],
        }

    def kept(self, listing: dict) -> "FolderLayout":
        """Returns the layout of an earlier `listing`: the same images in the same order. `gone` has missing files."""
        images = {
            (part["split"], part["class"]): [os.path.join(self.root, file) for file in part["files"]]
            for part in listing["images"]
        }
        here = {path for paths in self.images.values() for path in paths}
        listed = {path for paths in images.values() for path in paths}
        return dataclasses.replace(
            self, images=images, divided=listing["divided"], gone=frozenset(listed - here), added=len(here - listed)
        )

    def arranged(self, first: Set[str], last: Set[str]) -> "FolderLayout":
        """Returns the layout with paths moved to the beginning or the end of their class.

        A slice such as `train[90%:]` takes the end of each class.
        """
        ranked = {
            part: sorted(paths, key=lambda path: (path in last) - (path in first))
            for part, paths in self.images.items()
        }
        return dataclasses.replace(self, images=ranked)


def scan(folder: str | os.PathLike) -> FolderLayout:
    """Lists the images of a folder by split and class.

    Raises:
        ValueError: If there is no such folder, or no image in it has a class.
        OSError: If a folder in it cannot be read.
    """
    root = str(pathlib.Path(os.path.expanduser(folder)))
    if not os.path.isdir(root):
        raise not_a_folder(root) if os.path.exists(root) else ValueError(f"There is no folder {root}.")
    tree = read_folder(root)
    while (inner := tree.only_folder()) is not None and _are_splits(inner.folders):
        tree = inner  # an archive that was unpacked into a folder of its own
    divided = _are_splits(tree.folders)
    images: dict[tuple[str, str], list[str]] = {}
    unlabelled = list(tree.images)
    empty: set[str] = set()
    parts = {name: part.unpacked(name) for name, part in sorted(tree.folders.items())} if divided else {TRAIN: tree}
    classes_of_training = _classes_of_training(parts) if divided else set()
    for split, part in parts.items():
        if divided:
            unlabelled += part.images
        holding = part.holding()
        alone = role(split) is None or len(holding) == 1
        if role(split) != TRAIN and alone and classes_of_training and not holding & classes_of_training:
            # Such as test/unknown/1.jpg, the images of a competition.
            unlabelled += [path for name in holding for path in part.folders[name].all_images()]
            continue
        for name in sorted(holding):
            images[split, name] = part.folders[name].all_images()
        if role(split) == TRAIN:
            # A folder of other files alone belongs to a tool; an empty one, or one of unread photographs, is a class.
            empty.update(
                name
                for name in part.folders.keys() - holding
                if not (others := part.folders[name].all_others()) or any(map(is_picture, others))
            )
    for _, name in images:
        if name != printable(name):
            raise ValueError(f"The name of the class {printable(name)} in {root} is not UTF-8: rename the folder.")
    layout = FolderLayout(
        tree.path, images, divided, tuple(sorted(empty)), tuple(sorted(unlabelled)), tuple(tree.all_others())
    )
    if not images:
        raise ValueError(
            f"{root} holds no images of classes: expected {root}/CLASS/IMAGE.jpg or {root}/train/CLASS/IMAGE.jpg. "
            f"{layout.left_out()}".rstrip()
        )
    return layout


def not_a_folder(path: str) -> ValueError:
    """Returns the error for a file in place of a folder."""
    return ValueError(
        f"{path} is not a folder: unpack an archive, and sort images that a table lists into folders of classes."
    )


def save_listing(listing: dict, folder: str | os.PathLike) -> None:
    """Writes a `FolderLayout.listing` to a run folder."""
    with written_whole(pathlib.Path(folder, FILES_FILE)) as partial:
        partial.write_bytes(gzip.compress(json.dumps(listing).encode(), mtime=0))


def load_listing(folder: str | os.PathLike) -> dict | None:
    """Reads the list that `save_listing` wrote; None if the run folder, or that of a model's file, does not have one.

    Raises:
        ValueError: If the list is damaged.
    """
    given = pathlib.Path(os.path.expanduser(folder))
    path = (given.parent if given.is_file() else given) / FILES_FILE
    if not path.is_file():
        return None
    try:
        return json.loads(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"{path}, the list of a run's images, is damaged: {error}.") from error


def is_called_by_role(split: str) -> bool:
    """Returns whether a name is itself that of a role, such as "train" or "Val", and not a longer one."""
    return split.casefold() in _ROLES


def _are_splits(tops: Mapping[str, Folder]) -> bool:
    tops = {name: folder.unpacked(name) for name, folder in tops.items() if folder.count}
    classes = _classes_of_training(tops)
    if all(map(is_called_by_role, tops)):
        training = any(role(name) == TRAIN for name in tops)
        return bool(classes) if training else any(folder.holding() for folder in tops.values())
    # Other names are those of splits if one for training and one for another use have the same classes.
    return any(role(name) not in (None, TRAIN) and set() < folder.holding() <= classes for name, folder in tops.items())


def _classes_of_training(parts: Mapping[str, Folder]) -> set[str]:
    return {name for split, part in parts.items() if role(split) == TRAIN for name in part.holding()}
