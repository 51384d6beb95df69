"""Images to classify, in shards: files of one file system, or rows of one row group of a parquet file."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from keras_mixer.prediction.locations import Location

_ROWS_AT_A_TIME = 64  # rows of a row group that are in memory together, encoded


class Shard(Protocol):
    """Images that one worker takes at a time.

    Attributes:
        names: A name for each image, by which its prediction is found again.
    """

    @property
    def names(self) -> tuple[str, ...]: ...

    def readings(self) -> Iterator[Callable[[], bytes]]:
        """A function for each image, in the order of `names`, that reads its encoded bytes or raises OSError."""

    def without(self, names: set[str]) -> "Shard":
        """The same shard without the images of these names."""


@dataclasses.dataclass(frozen=True)
class FileShard:
    """Image files.

    Attributes:
        locations: The files.
        names: Their names.
    """

    locations: tuple[Location, ...]
    names: tuple[str, ...]

    def readings(self):
        for location in self.locations:
            yield location.read

    def without(self, names):
        kept = [index for index, name in enumerate(self.names) if name not in names]
        return FileShard(tuple(self.locations[index] for index in kept), tuple(self.names[index] for index in kept))


@dataclasses.dataclass(frozen=True)
class ParquetShard:
    """Rows of one row group, the unit in which a parquet file can be read.

    Attributes:
        location: The parquet file.
        row_group: Number of the row group.
        rows: Numbers of the rows in it, rising.
        column: The column of encoded images; dots lead into its fields.
        names: Names of the images.
    """

    location: Location
    row_group: int
    rows: tuple[int, ...]
    column: str
    names: tuple[str, ...]

    def readings(self):
        import pyarrow as pa

        try:
            yield from self._readings()
        except (OSError, pa.ArrowInvalid) as error:  # Arrow does not say of which file it speaks
            kind = OSError if isinstance(error, OSError) else ValueError
            raise kind(f"{self.location.name} cannot be read as a parquet file: {error}") from error

    def _readings(self):
        import pyarrow.parquet as pq

        wanted, row, found = set(self.rows), 0, 0
        with self.location.filesystem.open_input_file(self.location.path) as file:
            batches = pq.ParquetFile(file).iter_batches(
                _ROWS_AT_A_TIME, row_groups=[self.row_group], columns=[self.column]
            )
            for batch in batches:
                values = batch.column(0)
                while hasattr(values, "field"):  # a record with the one field that was asked for
                    values = values.field(0)
                for value in values:
                    if row in wanted:
                        found += 1
                        yield lambda value=value: _present(value.as_py())
                    row += 1
        if found != len(self.rows):
            raise ValueError(f"{self.location.name} has fewer rows than when it was listed: run again.")

    def without(self, names):
        kept = [index for index, name in enumerate(self.names) if name not in names]
        rows, left = tuple(self.rows[index] for index in kept), tuple(self.names[index] for index in kept)
        return dataclasses.replace(self, rows=rows, names=left)


def _present(value: bytes | None) -> bytes:
    if value is None:
        raise OSError("The row holds no image.")
    return value


def names_by_table(shards: Sequence[Shard]) -> dict[str, list[str]]:
    """The names of the images of each parquet file, by its path or URI."""
    names: dict[str, list[str]] = {}
    for shard in shards:
        if isinstance(shard, ParquetShard):
            names.setdefault(shard.location.name, []).extend(shard.names)
    return names


def left_over(shards: Sequence[Shard], done: set[str]) -> list[Shard]:
    """What of the shards is not done."""
    left = [shard.without(done) for shard in shards] if done else list(shards)
    return [shard for shard in left if shard.names]


def divided(shards: Sequence[Shard], size: int) -> list[Shard]:
    """Cuts shards of files to `size` images; row groups stay whole, for each piece would read all of them."""
    pieces: list[Shard] = []
    for shard in shards:
        if isinstance(shard, FileShard):
            for start in range(0, len(shard.names), size):
                end = start + size
                pieces.append(FileShard(shard.locations[start:end], shard.names[start:end]))
        else:
            pieces.append(shard)
    return pieces
