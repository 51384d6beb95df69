"""Finds images and divides them into shards: files of one file system, or rows of one row group of a parquet file."""

import collections
import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress
from typing import TYPE_CHECKING, Protocol

from keras_mixer.images import IMAGE_SUFFIXES
from keras_mixer.listing import counted, is_image
from keras_mixer.prediction.locations import Location, expand

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

PARQUET_SUFFIX = ".parquet"
ROW_NUMBERS = "none"  # value of `id_column` that numbers the rows
_BYTES = ("BYTE_ARRAY", "NONE")  # physical and logical type of a column of bytes
_ROWS_AT_A_TIME = 64  # encoded rows of a row group that are in memory at a time

_log = logging.getLogger(__name__)


class Shard(Protocol):
    """Images that a worker takes together. Each has a unique name."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def readings(self) -> Iterator[Callable[[], bytes]]:
        """Yields a function for each image, in the order of `names`, that reads its bytes or raises OSError."""

    def without(self, names: set[str]) -> "Shard":
        """Returns a shard without the images that have these names."""


@dataclasses.dataclass(frozen=True)
class FileShard:
    """Image files and their names."""

    locations: tuple[Location, ...]
    names: tuple[str, ...]

    def readings(self):
        for location in self.locations:
            yield location.read

    def without(self, names):
        kept = [name not in names for name in self.names]
        return FileShard(tuple(compress(self.locations, kept)), tuple(compress(self.names, kept)))


@dataclasses.dataclass(frozen=True)
class ParquetShard:
    """Rows of one row group, the unit in which a parquet file can be read.

    Attributes:
        location: The parquet file.
        row_group: Number of the row group.
        rows: Indices of the rows in the row group, in rising order.
        column: The column of encoded images, such as "image.bytes" for a field of a record.
        names: Names of the images.
    """

    location: Location
    row_group: int
    rows: tuple[int, ...]
    column: str
    names: tuple[str, ...]

    def readings(self):
        wanted, row, found = set(self.rows), 0, 0
        with _opened(self.location) as parquet:
            for batch in parquet.iter_batches(_ROWS_AT_A_TIME, row_groups=[self.row_group], columns=[self.column]):
                values = batch.column(0)
                while hasattr(values, "field"):  # a struct that holds only the requested field
                    values = values.field(0)
                for value in values:
                    if row in wanted:
                        found += 1
                        yield lambda value=value: _present(value.as_py())
                    row += 1
        if found != len(self.rows):
            raise ValueError(f"{self.location.name} has fewer rows than when it was listed: run again.")

    def without(self, names):
        kept = [name not in names for name in self.names]
        return dataclasses.replace(self, rows=tuple(compress(self.rows, kept)), names=tuple(compress(self.names, kept)))


@contextlib.contextmanager
def _opened(table: Location) -> Iterator["ParquetFile"]:
    """Opens a parquet file. Adds its name to errors, because Arrow does not."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        table.check()
        with ParquetFile(table.path, filesystem=table.filesystem) as parquet:
            yield parquet
    except (OSError, pa.ArrowInvalid) as error:
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(f"{table.name} cannot be read as a parquet file: {error}") from error


def _present(value: bytes | None) -> bytes:
    if value is None:
        raise OSError("The row holds no image.")
    return value


def names_by_table(shards: Sequence[Shard]) -> dict[str, list[str]]:
    """Returns the names of the images of each parquet file, by its path or URI."""
    names: dict[str, list[str]] = {}
    for shard in shards:
        if isinstance(shard, ParquetShard):
            names.setdefault(shard.location.name, []).extend(shard.names)
    return names


def left_over(shards: Sequence[Shard], done: set[str]) -> list[Shard]:
    """Returns shards of the images whose names are not in `done`."""
    left = [shard.without(done) for shard in shards] if done else list(shards)
    return [shard for shard in left if shard.names]


def divided(shards: Sequence[Shard], size: int) -> list[Shard]:
    """Divides shards of files into shards of `size`. Row groups stay whole, because each piece would read all of it."""
    pieces: list[Shard] = []
    for shard in shards:
        if not isinstance(shard, FileShard):
            pieces.append(shard)
            continue
        for start in range(0, len(shard.names), size):
            part = slice(start, start + size)
            pieces.append(FileShard(shard.locations[part], shard.names[part]))
    return pieces


def find_images(
    patterns: Iterable[str],
    *,
    image_column: str | None = None,
    id_column: str | None = None,
    leave_out: Location | None = None,
) -> list[Shard]:
    """Finds images.

    Args:
        patterns: Paths, URIs or globs of image files, parquet files, and folders that hold either at any depth. A file
            that is named explicitly may have any suffix.
        image_column: Column of encoded images in parquet files, such as "image.bytes" for a field of a record; None for
            the only column of bytes.
        id_column: Column of unique names in parquet files. None takes the column `path` or `id`. If there is neither,
            an image is named by its file and row, as "none" always does.
        leave_out: A folder whose files are left out. If it is a file, files whose names begin with its name are left
            out.

    Returns:
        Shards that contain each image once. A file's name is its absolute path or URI. If that is not UTF-8, reading
        the image raises OSError. A warning counts files in folders that have other suffixes, by kind.

    Raises:
        ValueError: If a folder or glob holds no image, a file that is named does not exist, or a parquet file lacks the
            columns or repeats a name.
        OSError: If something cannot be read.

    Example:
        >>> shards = keras_mixer.prediction.find_images(["photographs", "s3://bucket/*.jpg"])
    """
    files: dict[Location, None] = {}  # not by name, which two files may share if one has escaped bytes
    tables: dict[Location, None] = {}
    suffixes = (*IMAGE_SUFFIXES, PARQUET_SUFFIX)
    outside = () if leave_out is None else (leave_out.name.rstrip("/") + "/", leave_out.name + ".")
    itself = None if leave_out is None else leave_out.name
    for pattern in patterns:
        found: list[Location] = []
        others: list[str] = []
        for place, is_folder in expand(os.fspath(pattern)):
            for file in place.files() if is_folder else [place]:
                if file.name == itself or (outside and file.name.startswith(outside)):
                    continue
                if is_folder and not (is_image(file.path) or file.path.lower().endswith(PARQUET_SUFFIX)):
                    others.append(file.name)
                else:
                    found.append(file)
        left_out = f" Left out: {counted(others)}." if others else ""
        if not found:
            elsewhere = "" if leave_out is None else f" outside {leave_out.name}"
            raise ValueError(
                f"{pattern} holds no images: expected files that end in {', '.join(suffixes)}{elsewhere}.{left_out}"
            )
        if others:
            _log.warning("%s: %s.", pattern, left_out.strip().removesuffix("."))
        for file in found:
            (tables if file.path.lower().endswith(PARQUET_SUFFIX) else files)[file] = None
    shards: list[Shard] = [FileShard(tuple(files), tuple(file.name for file in files))] if files else []
    for table in tables:
        shards += _row_groups(table, image_column, id_column)
    counts = collections.Counter(name for shard in shards for name in shard.names)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise ValueError(
            f"Two images are called {repeated[0]!r}, so their predictions could not be told apart. Name a column of "
            f"unique values with --id-column, or number the rows with --id-column {ROW_NUMBERS}."
        )
    return shards


def _row_groups(table: Location, image_column: str | None, id_column: str | None) -> list[Shard]:
    shards: list[Shard] = []
    before = 0
    with _opened(table) as parquet:
        images, ids = _image_column(table, parquet, image_column), _id_column(table, parquet, id_column)
        for group in range(parquet.num_row_groups):
            rows = parquet.metadata.row_group(group).num_rows
            if ids is None:
                names = [f"{table.name}#{row}" for row in range(before, before + rows)]
            else:
                names = _names(table, ids, parquet.read_row_group(group, [ids]).column(0).to_pylist())
            shards.append(ParquetShard(table, group, tuple(range(rows)), images, tuple(names)))
            before += rows
    return shards


def _image_column(table: Location, parquet: "ParquetFile", wanted: str | None) -> str:
    # A column inside a struct has a dotted path, such as "image.bytes". A column inside a list is repeated.
    once = [column for column in parquet.schema if not column.max_repetition_level]
    columns = [column.path for column in once if (column.physical_type, column.logical_type.type) == _BYTES]
    if wanted is not None:
        within = [column for column in columns if f"{column}.".startswith(f"{wanted}.")]
        columns = [wanted] if wanted in within else within
    if len(columns) != 1:
        existing = ", ".join(f"{field.name} ({field.type})" for field in parquet.schema_arrow)
        raise ValueError(
            f"{table.name} has {len(columns)} columns of bytes{'' if wanted is None else f' called {wanted!r}'}, but "
            f"one must hold the encoded images. Its columns are {existing}. Name one with --image-column."
        )
    return columns[0]


def _id_column(table: Location, parquet: "ParquetFile", wanted: str | None) -> str | None:
    names = parquet.schema_arrow.names
    if wanted is None:
        return next((name for name in ("path", "id") if name in names), None)
    if wanted == ROW_NUMBERS:
        return None
    if wanted not in names:
        raise ValueError(f"{table.name} has no column {wanted!r}, only {', '.join(names)}.")
    return wanted


def _names(table: Location, column: str, values: list) -> list[str]:
    for value in values:
        if value is None or isinstance(value, bytes):
            kind = "no value" if value is None else f"the bytes {value!r}"
            raise ValueError(
                f"{table.name} has {kind} in the column {column!r}, which must name each image. Name a column of text "
                f"or numbers with --id-column, or number the rows with --id-column {ROW_NUMBERS}."
            )
    return [str(value) for value in values]
