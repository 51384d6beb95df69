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
        known: What a listing said is there, "File", "Directory" or "NotFound", which saves a request; otherwise None.
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
        """What is there: "File", "Directory" or "NotFound". Asks the file system if no listing has said it."""
        return self.known or self.filesystem.get_file_info(self.path).type.name

    def __truediv__(self, name: str) -> "Location":
        return Location(self.filesystem, f"{self.path.rstrip('/')}/{name}")

    def exists(self) -> bool:
        """Says whether anything is there."""
        return self.kind != "NotFound"

    def read(self) -> bytes:
        """Reads all bytes of a file."""
        if self.filesystem.type_name == "local":  # Arrow does not read pipes, and its errors are longer
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

    def files(self, *, recursive: bool = True, hidden: bool = False, folders: bool = False) -> list["Location"]:
        """Lists the files in a folder, in the order of their paths.

        Args:
            recursive: Whether to list the files of subfolders too.
            hidden: Whether to list files if their name, or a subfolder's name, starts with a dot.
            folders: Whether to list folders too.

        Raises:
            ValueError: If a name is not UTF-8.
            OSError: If the folder cannot be read.
        """
        from pyarrow.fs import FileSelector, FileType

        kinds = (FileType.File, FileType.Directory) if folders else (FileType.File,)
        found = self.filesystem.get_file_info(FileSelector(self.path, recursive=recursive))
        try:
            places = sorted((info.path, info.type.name) for info in found if info.type in kinds)
        except UnicodeDecodeError as error:
            raise _not_utf8(error) from error
        start = len(self.path.rstrip("/"))
        return [Location(self.filesystem, *place) for place in places if hidden or "/." not in place[0][start:]]


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

    A pattern without any of these, or the very name of a file or folder, stands for the place that it names, even if
    nothing is there.
    """
    if "://" not in pattern:
        here = locate(pattern)
        if here.exists() or not glob.has_magic(pattern):
            return [here]
        return [locate(path) for path in sorted(glob.glob(here.path, recursive=True))]
    address, mark, query = pattern.partition("?")
    base, star, _ = address.partition("*")
    if not star:
        return [locate(pattern)]
    from fsspec.utils import glob_translate

    base = base.rpartition("/")[0]
    folder, wanted = locate(base + mark + query), address[len(base) + 1 :].rstrip("/")
    start = len(folder.path.rstrip("/")) + 1
    matches = re.compile(glob_translate(wanted)).match
    # One listing answers for all files, because each further question to an object store is a request.
    places = folder.files(recursive="/" in wanted or "**" in wanted, folders=True)
    return [place for place in places if matches(place.path[start:])]


def _not_utf8(error: UnicodeDecodeError | UnicodeEncodeError) -> ValueError:
    if isinstance(error, UnicodeDecodeError):
        name = error.object.decode(errors="backslashreplace")
    else:
        name = error.object.encode(errors="backslashreplace").decode()
    return ValueError(f"The name of {name} is not UTF-8, so neither Arrow nor parquet can hold it: rename it.")
