"""Files and folders named by a path or a URI: on this machine or in an object store, as Arrow reads them."""

import dataclasses
import glob
import os
import re
from typing import TYPE_CHECKING

from keras_mixer.extras import require
from keras_mixer.files import PARTIAL

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

# Object stores show a file once all of it has arrived. Elsewhere it is written aside and renamed.
_APPEARS_WHOLE = ("s3", "gcs", "abfs")
_SCHEMES = {"gcs": "gs"}


@dataclasses.dataclass(frozen=True)
class Location:
    """A file or folder on a file system of Arrow. It can be sent to another process.

    Attributes:
        filesystem: The file system.
        path: The path on it: absolute on this machine, bucket and key in an object store.
        known: "File", "Directory" or "NotFound" if a listing has told, which saves a request; otherwise None.
    """

    filesystem: "FileSystem"
    path: str
    known: str | None = dataclasses.field(default=None, compare=False)

    @property
    def name(self) -> str:
        """The path on this machine, or a URI."""
        kind = self.filesystem.type_name
        return self.path if kind == "local" else f"{_SCHEMES.get(kind, kind)}://{self.path}"

    @property
    def kind(self) -> str:
        """What is there: "File", "Directory" or "NotFound". Asks the file system unless it is known."""
        return self.known or self.filesystem.get_file_info(self.path).type.name

    def __truediv__(self, name: str) -> "Location":
        return Location(self.filesystem, f"{self.path.rstrip('/')}/{name}")

    def exists(self) -> bool:
        """Says whether anything is there."""
        return self.kind != "NotFound"

    def read(self) -> bytes:
        """Reads all bytes of a file."""
        if self.filesystem.type_name == "local":  # Arrow's own errors are longer, and it does not read a pipe
            with open(self.path, "rb") as file:
                return file.read()
        with self.filesystem.open_input_stream(self.path) as stream:
            return stream.read()

    def write(self, content: bytes) -> None:
        """Writes a file, whole or not at all, and makes the folders above it."""
        folder, _, name = self.path.rpartition("/")
        whole = self.filesystem.type_name in _APPEARS_WHOLE
        if not whole:
            self.filesystem.create_dir(folder, recursive=True)
        target = self.path if whole else f"{folder}/{PARTIAL}{os.getpid()}-{name}"
        with self.filesystem.open_output_stream(target) as stream:
            stream.write(content)
        if not whole:
            self.filesystem.move(target, self.path)

    def delete(self) -> None:
        """Deletes a file."""
        self.filesystem.delete_file(self.path)

    def files(self, *, recursive: bool = True, hidden: bool = False) -> list["Location"]:
        """Lists the files in a folder, in the order of their paths.

        Args:
            recursive: Whether to look into the folders in it.
            hidden: Whether to list files whose name, or whose folder's name, starts with a dot.

        Raises:
            ValueError: If a name is not UTF-8.
            OSError: If the folder cannot be read.
        """
        from pyarrow.fs import FileSelector, FileType

        found = self.filesystem.get_file_info(FileSelector(self.path, recursive=recursive))
        try:
            paths = sorted(info.path for info in found if info.type == FileType.File)
        except UnicodeDecodeError as error:
            raise _not_utf8(error) from error
        start = len(self.path.rstrip("/"))
        return [Location(self.filesystem, path, "File") for path in paths if hidden or "/." not in path[start:]]


def locate(name: str | os.PathLike) -> Location:
    """Finds the file system of a path or a URI (`file://`, `s3://`, `gs://`, `hdfs://`, `abfs://`).

    Raises:
        ValueError: If Arrow does not know the kind of URI, or the path is not UTF-8.
        OSError: If its server does not answer.
        ImportError: If Arrow is not installed.
    """
    require("pyarrow", command="pip install pyarrow", purpose="Reading images and writing predictions")
    from pyarrow import fs

    text = os.fspath(name)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _not_utf8(error) from error
    if "://" in text:
        return Location(*fs.FileSystem.from_uri(text))
    return Location(fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(text)))


def expand(pattern: str) -> list[Location]:
    """Finds what matches a pattern with `*` and `**`, and on this machine also `?` and `[abc]`, in the order of names.

    A pattern without any of these, or one that is the very name of a file or folder, stands for what it names, whether
    that is there or not.
    """
    address, mark, query = pattern.partition("?") if "://" in pattern else (pattern, "", "")
    if mark or "://" in pattern:
        if "*" not in address:
            return [locate(pattern)]
        base = re.split(r"[*\[]", address, maxsplit=1)[0].rpartition("/")[0]
        folder, wanted = locate(base + mark + query), address[len(base) + 1 :]
    else:
        here = locate(pattern)
        if here.exists() or not glob.has_magic(pattern):
            return [here]
        base = re.split(r"[*?\[]", here.path, maxsplit=1)[0].rpartition("/")[0]
        folder, wanted = Location(here.filesystem, base), here.path[len(base) + 1 :]
    from fsspec.implementations.arrow import ArrowFSWrapper

    path = folder.path.rstrip("/")
    try:
        found = ArrowFSWrapper(folder.filesystem).glob(f"{path}/{wanted.rstrip('/')}", detail=True)
    except UnicodeDecodeError as error:
        raise _not_utf8(error) from error
    kinds = {"file": "File", "directory": "Directory"}
    return [
        Location(folder.filesystem, place, kinds[info["type"]])
        for place, info in sorted(found.items())
        if "/." not in place[len(path) :] or "/." in f"/{wanted}"
    ]


def _not_utf8(error: UnicodeDecodeError | UnicodeEncodeError) -> ValueError:
    if isinstance(error, UnicodeDecodeError):
        name = error.object.decode(errors="backslashreplace")
    else:
        name = error.object.encode(errors="backslashreplace").decode()
    return ValueError(f"The name of {name} is not UTF-8, so neither Arrow nor parquet can hold it: rename it.")
