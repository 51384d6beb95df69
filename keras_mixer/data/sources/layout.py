"""Finds the splits and classes of a folder of images, without opening the images.

The top folders are splits if all top folders with images have names such as `train`, `val` and `test`, in upper or
lower case, and the training split contains class folders. Otherwise they are classes, and the whole folder is one
split, `train`. The images of a class may be in subfolders.
"""

import dataclasses
import functools
import gzip
import json
import os
import pathlib
import re
from collections.abc import Iterable, Mapping

from keras_mixer.files import written_whole
from keras_mixer.listing import counted, is_image, is_picture, is_side, printable

FILES_FILE = "files.json.gz"  # file in a run folder that lists the images that the run began with
TRAIN, VALIDATION, TEST = "train", "validation", "test"
_ROLES = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("validation", "val", "valid", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}
_NAME = re.compile(r"(?:^|(?<=\+))\s*([^\[+]+?)\s*(?=\[|\+|$)")  # of a split in an expression such as "train[:90%]+val"


def role(split: str) -> str | None:
    """Returns what a split of this name is used for: "train", "validation" or "test"; None for another name."""
    return _ROLES.get(split.casefold())


def in_role(splits: Iterable[str], wanted: str) -> list[str]:
    """Returns the splits that have the role `wanted`."""
    return [split for split in splits if role(split) == wanted]


@dataclasses.dataclass(frozen=True)
class Layout:
    """The images of a folder by split and class.

    Attributes:
        root: The folder.
        images: Paths of the images of each (split, class), sorted.
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
            found = [name] if name in self.sizes or role(name) is None else in_role(self.sizes, str(role(name)))
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
                f"{_images(len(self.unlabelled))} outside of class folders (in {named}"
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

    def kept(self, listing: dict) -> "Layout":
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


def scan(folder: str | os.PathLike) -> Layout:
    """Lists the images of a folder by split and class.

    Raises:
        ValueError: If there is no such folder, or no image in it has a class.
        OSError: If a folder in it cannot be read.
    """
    root = str(pathlib.Path(folder).expanduser())
    if not os.path.isdir(root):
        raise ValueError(f"{root} is not a folder." if os.path.exists(root) else f"There is no folder {root}.")
    tree = _read(root)
    while (inner := tree.only_folder()) is not None and _are_splits(inner.folders):
        tree = inner  # an archive that was unpacked into a folder of its own
    divided = _are_splits(tree.folders)
    images: dict[tuple[str, str], list[str]] = {}
    unlabelled = list(tree.images)
    empty: set[str] = set()
    classes_of_training = {
        name for top, part in tree.folders.items() if role(top) == TRAIN for name in part.holding() if divided
    }
    for split, part in sorted(tree.folders.items()) if divided else [(TRAIN, tree)]:
        if divided:
            unlabelled += part.images
        holding = part.holding()
        if role(split) != TRAIN and len(holding) == 1 and classes_of_training and not holding & classes_of_training:
            unlabelled += part.all_images()  # such as test/test/1.jpg: the images of a competition
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
    layout = Layout(
        tree.path, images, divided, tuple(sorted(empty)), tuple(sorted(unlabelled)), tuple(tree.all_others())
    )
    if not images:
        raise ValueError(
            f"{root} holds no images of classes: expected {root}/CLASS/IMAGE.jpg or {root}/train/CLASS/IMAGE.jpg. "
            f"{layout.left_out()}".rstrip()
        )
    return layout


def save_listing(listing: dict, folder: str | os.PathLike) -> None:
    """Writes a `Layout.listing` to a run folder."""
    with written_whole(pathlib.Path(folder, FILES_FILE)) as partial:
        partial.write_bytes(gzip.compress(json.dumps(listing).encode(), mtime=0))


def load_listing(folder: str | os.PathLike) -> dict | None:
    """Reads the list that `save_listing` wrote; None if the folder does not have one.

    Raises:
        ValueError: If the list is damaged.
    """
    path = pathlib.Path(folder, FILES_FILE)
    if not path.is_file():
        return None
    try:
        return json.loads(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"{path}, the list of a run's images, is damaged: {error}.") from error


def _are_splits(tops: Mapping[str, "_Folder"]) -> bool:
    tops = {name: folder for name, folder in tops.items() if folder.count}
    roles = {role(name) for name in tops}
    training = [folder for name, folder in tops.items() if role(name) == TRAIN]
    if None not in roles:
        return any(folder.holding() for folder in training or tops.values())
    # Further splits of other names stand beside those of training and another role if they have the same classes.
    classes = {name for folder in training for name in folder.holding()}
    return len(roles) > 2 and bool(classes) and all(set() < folder.holding() <= classes for folder in tops.values())


@dataclasses.dataclass
class _Folder:
    path: str
    images: list[str] = dataclasses.field(default_factory=list)  # directly in it
    others: list[str] = dataclasses.field(default_factory=list)
    folders: dict[str, "_Folder"] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def count(self) -> int:
        """Number of images at any depth."""
        return len(self.images) + sum(folder.count for folder in self.folders.values())

    def holding(self) -> set[str]:
        """Names of the folders in it that hold images."""
        return {name for name, folder in self.folders.items() if folder.count}

    def only_folder(self) -> "_Folder | None":
        """The only subfolder with images, if there are no images beside it."""
        holding = [] if self.images else [folder for folder in self.folders.values() if folder.count]
        return holding[0] if len(holding) == 1 else None

    def all_images(self) -> list[str]:
        return sorted(self.images + [path for folder in self.folders.values() for path in folder.all_images()])

    def all_others(self) -> list[str]:
        return sorted(self.others + [path for folder in self.folders.values() for path in folder.all_others()])


def _read(path: str, above: frozenset[tuple[int, int]] = frozenset()) -> _Folder:
    """Reads a folder and its subfolders. Links are followed, except to a folder above."""
    status = os.stat(path)
    here = above | {(status.st_dev, status.st_ino)}
    folder = _Folder(path)
    with os.scandir(path) as entries:  # knows folders from files without asking again for each
        for entry in entries:
            if is_side(entry.name):
                continue
            linked = entry.is_symlink()
            if os.path.isdir(entry.path) if linked else entry.is_dir():
                inner = os.stat(entry.path)
                if (inner.st_dev, inner.st_ino) not in here:
                    folder.folders[entry.name] = _read(entry.path, here)
            elif is_image(entry.name) and (linked or entry.is_file()):
                folder.images.append(entry.path)
            else:
                folder.others.append(entry.path)
    return folder


def _images(count: int) -> str:
    return f"{count:,} image{'s' if count > 1 else ''}"
