"""Lists folders, and tells images from other files by their names, without opening them."""

import dataclasses
import functools
import os
import unicodedata
from collections.abc import Iterable

from keras_mixer.extras import installed
from keras_mixer.images import IMAGE_SUFFIXES

# Folders that operating systems and network storage create. Names that start with a dot are treated like them.
_SIDE_FOLDERS = frozenset(
    {
        *("__macosx", "@eadir", "@__thumb", "#recycle", "$recycle.bin", "recycler", "lost+found", "lost.dir"),
        *("system volume information", "__pycache__"),
    }
)
_HEIF_SUFFIXES = (".heic", ".heif", ".hif")
# Photographs and videos, whether or not this package reads them. Messages name them before other files.
_PICTURES = (
    *(".heic", ".heif", ".hif", ".avif", ".webp", ".bmp", ".tif", ".tiff", ".jp2", ".j2k", ".jxl", ".jfif", ".jpe"),
    *(".mpo", ".apng", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw"),
    *(".psd", ".svg", ".ppm", ".ico"),
)
_VIDEOS = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".3gp", ".mts")
_OTHER = "other"


def is_side(name: str) -> bool:
    """Returns whether a file or folder of this name belongs to an operating system or is hidden."""
    return name.startswith(".") or name.casefold() in _SIDE_FOLDERS


def is_image(path: str) -> bool:
    """Returns whether a file's suffix is that of an image. HEIC counts only if pillow-heif is installed."""
    suffix = _suffix(path)
    return suffix in IMAGE_SUFFIXES and not (suffix in _HEIF_SUFFIXES and not installed("pillow_heif"))


def is_picture(path: str) -> bool:
    """Returns whether a file's suffix is that of a photograph or video, whether or not this package reads it."""
    return _suffix(path) in (*IMAGE_SUFFIXES, *_PICTURES, *_VIDEOS)


def by_kind(paths: Iterable[str]) -> dict[str, list[str]]:
    """Groups files that are not taken for images by kind, such as "HEIC": pictures first, then videos, then others."""
    kinds: dict[str, list[str]] = {}
    for path in paths:
        suffix = _suffix(path)
        kind = suffix[1:].upper() if suffix in (*_PICTURES, *_VIDEOS) else _OTHER
        kinds.setdefault(kind, []).append(path)

    def rank(kind: str) -> int:
        suffix = f".{kind.lower()}"
        return 0 if suffix in _PICTURES else 1 if suffix in _VIDEOS else 2

    return {kind: kinds[kind] for kind in sorted(kinds, key=lambda kind: (rank(kind), -len(kinds[kind])))}


def counted(paths: Iterable[str]) -> str:
    """Describes files that are not taken for images: the number of each kind, one name, and what would read them.

    Example:
        >>> counted(["a/IMG_1.HEIC", "a/Thumbs.db"])
        '1 HEIC file (IMG_1.HEIC), 1 other file (Thumbs.db). HEIC needs: pip install "keras_mixer[heif]"'
    """
    kinds = by_kind(paths)
    parts = [
        f"{plural(len(files), f'{kind} file')} ({printable(os.path.basename(files[0]))}"
        f"{', ...' if len(files) > 1 else ''})"
        for kind, files in kinds.items()
    ]
    heif = any(suffix[1:].upper() in kinds for suffix in _HEIF_SUFFIXES)
    hint = '. HEIC needs: pip install "keras_mixer[heif]"' if heif else ""
    return ", ".join(parts) + hint


@dataclasses.dataclass
class Folder:
    """What a folder holds: images by their names, other files, and folders. What `is_side` names is left out."""

    path: str
    images: list[str] = dataclasses.field(default_factory=list)  # directly in it
    others: list[str] = dataclasses.field(default_factory=list)
    folders: dict[str, "Folder"] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def count(self) -> int:
        """Number of images at any depth."""
        return len(self.images) + sum(folder.count for folder in self.folders.values())

    def holding(self) -> set[str]:
        """Names of the folders in it that hold images."""
        return {name for name, folder in self.folders.items() if folder.count}

    def only_folder(self) -> "Folder | None":
        """The only subfolder with images, if there are no images beside it."""
        holding = [] if self.images else [folder for folder in self.folders.values() if folder.count]
        return holding[0] if len(holding) == 1 else None

    def unpacked(self, name: str) -> "Folder":
        """Returns the folder, or the one of the same name in it if it holds all images: `train/train`."""
        inner = self.folders.get(name)
        return self if inner is None or self.only_folder() is not inner else inner.unpacked(name)

    def all_images(self) -> list[str]:
        return sorted(self.images + [path for folder in self.folders.values() for path in folder.all_images()])

    def all_others(self) -> list[str]:
        return sorted(self.others + [path for folder in self.folders.values() for path in folder.all_others()])


def read_folder(path: str, above: frozenset[tuple[int, int]] = frozenset()) -> Folder:
    """Reads a folder and its subfolders. Links are followed, except to a folder above."""
    status = os.stat(path)
    here = above | {(status.st_dev, status.st_ino)}
    folder = Folder(path)
    with os.scandir(path) as entries:  # knows folders from files without asking again for each
        for entry in entries:
            if is_side(entry.name):
                continue
            linked = entry.is_symlink()
            if os.path.isdir(entry.path) if linked else entry.is_dir():
                inner = os.stat(entry.path)
                if (inner.st_dev, inner.st_ino) not in here:
                    inside = read_folder(entry.path, here)
                    name = unicodedata.normalize("NFC", entry.name)  # systems write accents in two ways
                    if name in folder.folders:
                        folder.folders[name].folders[entry.path] = inside
                    else:
                        folder.folders[name] = inside
            elif is_image(entry.name) and (_leads_to_file(entry.path) if linked else entry.is_file()):
                folder.images.append(entry.path)
            else:
                folder.others.append(entry.path)
    return folder


def _leads_to_file(link: str) -> bool:
    """Returns whether a link leads to a file, or to nothing. Reading what else it leads to, a pipe, may never end."""
    return os.path.isfile(link) or not os.path.exists(link)


def plural(count: int, noun: str) -> str:
    """Returns a number and its noun, such as "1 image" or "1,024 images"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def printable(path: str) -> str:
    """Returns a path in which bytes that are not UTF-8 are escaped, because terminals refuse them."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()
