"""Files and folders, named by a local path or by any URI that fsspec can open."""

import contextlib
import dataclasses
import glob
import os
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from keras_mixer.extras import require
from keras_mixer.files import PARTIAL
from keras_mixer.listing import is_side, printable, read_folder

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# Stores where a file appears only when it is complete. On others, it is written under another name and renamed.
_OBJECT_STORES = ("s3://", "gs://", "abfs://")


@dataclasses.dataclass(frozen=True)
class Location:
    """A file or folder. It can be pickled and sent to another process.

    Args:
        filesystem: A file system of fsspec.
        path: The path in this file system: absolute on this machine, bucket and key in an object store.
    """

    filesystem: "AbstractFileSystem"
    path: str

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine."""
        return "file" in self.filesystem.protocol

    @property
    def name(self) -> str:
        """The path on this machine, or a URI. Bytes that are not UTF-8 are escaped."""
        return printable(self.path if self.is_local else self.filesystem.unstrip_protocol(self.path))

    def check(self) -> None:
        """Raises OSError if the path is not UTF-8, because a table cannot hold it."""
        if printable(self.path) != self.path:
            raise OSError(f"The name of {self.name} is not UTF-8, so a table cannot hold it: rename it.")

    def __truediv__(self, name: str) -> "Location":
        return Location(self.filesystem, f"{self.path.rstrip('/')}/{name}")

    def read(self) -> bytes:
        """Reads all bytes of a file. Raises OSError if that fails, or if the path is not UTF-8."""
        self.check()
        if self.is_local:  # fsspec does not read pipes
            with open(self.path, "rb") as file:
                return file.read()
        return self.filesystem.cat_file(self.path)

    def write(self, content: bytes) -> None:
        """Writes a file atomically and creates missing folders."""
        if self.name.startswith(_OBJECT_STORES):
            self.filesystem.pipe_file(self.path, content)
            return
        folder, _, name = self.path.rpartition("/")
        partial = f"{folder}/{PARTIAL}{os.getpid()}-{name}"
        self.filesystem.makedirs(folder, exist_ok=True)
        self.filesystem.pipe_file(partial, content)
        self.filesystem.mv(partial, self.path)

    def files(self) -> list["Location"]:
        """Lists the files in a folder at any depth, sorted by path, without metadata files of operating systems."""
        if self.is_local:  # fsspec does not follow links to folders
            folder = read_folder(self.path)
            found = folder.all_images() + [path for path in folder.all_others() if os.path.isfile(path)]  # no pipes
        else:
            found = [path for path in self.filesystem.find(self.path) if not path.endswith("/")]  # an empty folder
        start = len(self.path.rstrip("/"))
        return [
            Location(self.filesystem, path) for path in sorted(found) if not any(map(is_side, path[start:].split("/")))
        ]


def locate(name: str | os.PathLike) -> Location:
    """Finds the file system of a path or a URI, such as `s3://`, `gs://`, `abfs://`, `hdfs://` or `file://`.

    Raises:
        ValueError: If fsspec does not know the kind of URI.
        OSError: If the path is not UTF-8.
        ImportError: If fsspec, or the package that it needs for this store, is not installed.
    """
    place = _located(name)
    place.check()
    return place


def _located(name: str | os.PathLike) -> Location:
    require("fsspec", "pyarrow", extra="pipelines", purpose="Reading images and writing predictions")
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    text = os.fspath(name)
    if text.startswith("file://"):
        text = unquote(text.removeprefix("file://"))
    elif "://" in text:
        return Location(*url_to_fs(text))
    return Location(LocalFileSystem(), os.path.abspath(os.path.expanduser(text)))


def expand(pattern: str) -> list[tuple[Location, bool]]:
    """Returns the files and folders that match a pattern with `*`, `**`, `?` and `[abc]`, and whether each is a folder.

    They are sorted by name. A pattern that is the exact name of a file or folder matches only that.

    Raises:
        ValueError: If nothing matches.
    """
    place = _located(pattern)
    filesystem, path = place.filesystem, place.path
    matches: dict[str, bool] = {}
    if place.is_local:
        paths = [path] if os.path.exists(path) else sorted(glob.glob(path, recursive=True))
        matches = {path: os.path.isdir(path) for path in paths}
    else:
        if glob.has_magic(path):  # lists once, because a question about each file would cost a request
            start = len(os.path.dirname(re.split(r"[*?[]", path)[0]))
            listed = filesystem.glob(path, detail=True).items()
            matches = {path: info["type"] == "directory" for path, info in listed if "/." not in path[start:]}
        if not matches:
            with contextlib.suppress(FileNotFoundError):
                matches = {path: filesystem.info(path)["type"] == "directory"}
    if not matches:
        raise ValueError(f"There is no file or folder {place.name}.")
    return [(Location(filesystem, path), is_folder) for path, is_folder in matches.items()]
