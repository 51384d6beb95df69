"""Tells images from other files in folders by their names, without opening them."""

import importlib.util
import os
from collections.abc import Iterable

from keras_mixer.images import IMAGE_SUFFIXES

# Folders that operating systems and network storage create. Names that start with a dot are treated like them.
_SIDE_FOLDERS = frozenset(
    {
        *("__macosx", "@eadir", "@__thumb", "#recycle", "$recycle.bin", "recycler", "lost+found", "lost.dir"),
        *("system volume information", "__pycache__"),
    }
)
_HEIF_SUFFIXES = (".heic", ".heif")
# Photographs and videos, whether or not this package reads them. Messages name them before other files.
_PICTURES = (
    *(".heic", ".heif", ".avif", ".webp", ".bmp", ".tif", ".tiff", ".jp2", ".j2k", ".jxl", ".jfif", ".jpe", ".mpo"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw", ".psd", ".svg", ".ppm", ".ico"),
)
_VIDEOS = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".3gp", ".mts")
_OTHER = "other"


def is_side(name: str) -> bool:
    """Returns whether a file or folder of this name belongs to an operating system or is hidden."""
    return name.startswith(".") or name.casefold() in _SIDE_FOLDERS


def is_image(path: str) -> bool:
    """Returns whether a file's suffix is that of an image. HEIC counts only if pillow-heif is installed."""
    suffix = _suffix(path)
    return suffix in IMAGE_SUFFIXES and not (suffix in _HEIF_SUFFIXES and _lacks_heif())


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
        f"{len(files):,} {kind} file{'s' if len(files) > 1 else ''} ({printable(os.path.basename(files[0]))}"
        f"{', ...' if len(files) > 1 else ''})"
        for kind, files in kinds.items()
    ]
    heif = any(suffix[1:].upper() in kinds for suffix in _HEIF_SUFFIXES)
    hint = '. HEIC needs: pip install "keras_mixer[heif]"' if heif else ""
    return ", ".join(parts) + hint


def printable(path: str) -> str:
    """Returns a path in which bytes that are not UTF-8 are escaped, because terminals refuse them."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _lacks_heif() -> bool:
    return importlib.util.find_spec("pillow_heif") is None
