"""Files and folders named by a path or a URI: on this machine, on S3, on Google Cloud Storage, by way of Arrow."""

import dataclasses
import fnmatch
import glob
import os
from typing import TYPE_CHECKING

from keras_mixer.files import PARTIAL

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

INSTALL = "pip install pyarrow"
# Object stores show a file when all of it has arrived; elsewhere it is written aside and renamed.
_APPEARS_WHOLE = ("s3", "gcs", "abfs")
_SCHEMES = {"gcs": "gs"}


@dataclasses.dataclass(frozen=True)
class Location:
    """A file or folder on a file system that Arrow speaks; it can be sent to another process.

    Attributes:
        filesystem: The file system.
        path: The path on it; absolute on this machine, bucket and key in an object store.
        kind: "File", "Directory" or "NotFound" as found before, which saves a request to an object store; None where
            it is asked for each time.
    """

    filesystem: "FileSystem"
    path: str
    kind: str | None = dataclasses.field(default=None, compare=False)

    @property
    def local(self) -> bool:
        """Whether it is a path of this machine."""
        return self.filesystem.type_name == "local"

    @property
    def name(self) -> str:
        """The path on this machine, or a URI."""
        kind = self.filesystem.type_name
        return self.path if self.local else f"{_SCHEMES.get(kind, kind)}://{self.path}"

    def at(self, path: str) -> "Location":
        """Another path on the same file system."""
        return Location(self.filesystem, path)

    def __truediv__(self, name: str) -> "Location":
        return self.at(f"{self.path.rstrip('/')}/{name}")

    def exists(self) -> bool:
        """Whether anything is there."""
        return self.looked_up().kind != "NotFound"

    def is_folder(self) -> bool:
        """Whether it is a folder, or a prefix of objects."""
        return self.looked_up().kind == "Directory"

    def looked_up(self) -> "Location":
        """The same with its kind, asked for now unless it is known."""
        if self.kind is not None:
            return self
        return Location(self.filesystem, self.path, self.filesystem.get_file_info(self.path).type.name)

    def read(self) -> bytes:
        """All bytes of a file."""
        if self.local:  # Arrow's own errors are longer and do not read a pipe
            with open(self.path, "rb") as file:
                return file.read()
        with self.filesystem.open_input_stream(self.path) as stream:
            return stream.read()

    def write(self, content: bytes) -> None:
        """Writes a file whole or not at all, and the folders above it."""
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

    def files(self, *, recursive: bool = True, hidden: bool = False, folders: bool = False) -> list["Location"]:
        """Files in a folder, in the order of their paths; without those that start with a dot, or lie in such a folder.

        Args:
            recursive: Whether to look into the folders in it.
            hidden: Whether to list what starts with a dot.
            folders: Whether to list the folders in it too.

        Raises:
            ValueError: If a name is not UTF-8.
            OSError: If the folder cannot be read.
        """
        from pyarrow.fs import FileSelector, FileType

        found = self.filesystem.get_file_info(FileSelector(self.path, recursive=recursive))
        kinds = (FileType.File, FileType.Directory) if folders else (FileType.File,)
        try:
            types = {info.path: info.type for info in found if info.type in kinds}
        except UnicodeDecodeError as error:  # Arrow knows no such names, nor do parquet files
            raise _not_utf8(error.object.decode(errors="backslashreplace")) from error
        start = len(self.path.rstrip("/"))
        return [
            Location(self.filesystem, path, types[path].name)
            for path in sorted(types)
            if hidden or "/." not in path[start:]
        ]


def locate(name: str | os.PathLike) -> Location:
    """Finds the file system of a path or a URI (`file://`, `s3://`, `gs://`, `hdfs://`, `abfs://`).

    Raises:
        ValueError: If the URI is none that Arrow knows, or the path is not UTF-8.
        OSError: If its server does not answer.
        ImportError: If Arrow is not installed.
    """
    try:
        from pyarrow import fs
    except ImportError as error:
        raise ImportError(f"Reading images and writing predictions needs Arrow: {INSTALL}") from error
    text = _utf8(os.fspath(name))
    if "://" in text:
        return Location(*fs.FileSystem.from_uri(text))
    return Location(fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(text)))


def _utf8(path: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise _not_utf8(path.encode(errors="backslashreplace").decode()) from error
    return path


def _not_utf8(path: str) -> ValueError:
    return ValueError(f"The name of {path} is not UTF-8, so neither Arrow nor parquet can hold it: rename it.")


def expand(pattern: str) -> list[Location]:
    """Finds what matches a pattern with `*` and `**` (on this machine also `?` and `[abc]`), in the order of names.

    Without any of these, or if it is the very name of something, the pattern is what it names, whether there or not.
    """
    if "://" not in pattern:
        here = locate(pattern)
        if here.exists() or not glob.has_magic(pattern):
            return [here]
        found = glob.glob(os.path.expanduser(pattern), recursive=True)
        return [here.at(_utf8(os.path.abspath(path))) for path in sorted(found)]
    address, mark, query = pattern.partition("?")
    head, star, _ = address.partition("*")
    if not star:
        return [locate(pattern)]
    base = head.rpartition("/")[0]
    folder, wanted = locate(base + mark + query), address[len(base) + 1 :].rstrip("/").split("/")
    start = len(folder.path.rstrip("/")) + 1
    places = folder.files(recursive=len(wanted) > 1 or "**" in wanted, folders=True)
    return [place for place in places if _matches(place.path[start:].split("/"), wanted)]


def _matches(names: list[str], patterns: list[str]) -> bool:
    if not patterns:
        return not names
    if patterns[0] == "**":
        return any(_matches(names[skipped:], patterns[1:]) for skipped in range(len(names) + 1))
    return bool(names) and fnmatch.fnmatchcase(names[0], patterns[0]) and _matches(names[1:], patterns[1:])
