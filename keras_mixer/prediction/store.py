"""Predictions on disk: a folder of parquet files, each written atomically, and a manifest of how they were made."""

import collections
import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from keras_mixer.files import PARTIAL
from keras_mixer.prediction.locations import Location, locate
from keras_mixer.prediction.manifest import Manifest

if TYPE_CHECKING:
    import pyarrow as pa


# Readers of parquet folders skip names that start with an underscore or a dot.
MANIFEST = "_manifest.json"
_PART, _SUFFIX = "part-", ".parquet"
# Names of temporary files that `Location.write` leaves when its process is killed, and only those.
_HALF_WRITTEN = re.compile(rf"{re.escape(PARTIAL)}\d+-({re.escape(MANIFEST)}|{_PART}[0-9a-f]+{re.escape(_SUFFIX)})")


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The most likely classes of one image.

    Attributes:
        path: Path or other name of the image.
        classes: Indices of the most likely classes, best first; empty if there is an error.
        labels: Their names.
        scores: Their scores.
        error: Why the image has no prediction; None if it has one.
    """

    path: str
    classes: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    error: str | None = None


class PredictionStore:
    """The predictions of one model, one row per image: `path`, `classes`, `labels`, `scores`, `error`.

    A part file appears with all its rows or not at all. A resumed run skips the images that have a row. Only one run
    may write at a time. A store can be pickled and sent to another process.

    Args:
        folder: Path or URI of the folder.

    Example:
        >>> store = keras_mixer.prediction.PredictionStore("predictions")
        >>> store.read(["path", "labels"]).to_pandas()
    """

    def __init__(self, folder: str | os.PathLike):
        self.location: Location = locate(folder)
        self._manifest = Manifest(self.location / MANIFEST, self.location.name)

    def open(self, made_by: dict, *, restart: bool = False) -> None:
        """Prepares the folder for a run.

        Args:
            made_by: Everything that the predictions depend on, such as the model's hash and the number of classes, as
                JSON values.
            restart: Whether to delete the predictions in the folder.

        Raises:
            ValueError: If the folder holds predictions that were made differently, or other files.
            OSError: If it cannot be read or written.
        """
        files = self._files()
        known = MANIFEST in files
        resumed = known and not restart
        half_written = [file for name, file in files.items() if _HALF_WRITTEN.fullmatch(name)]
        if resumed:
            self._manifest.check(made_by)
        elif not known and len(files) > len(half_written):
            raise ValueError(f"{self.location.name} holds files but no {MANIFEST}: choose a new or empty folder.")
        parts = [] if resumed else self._parts()
        for file in (*half_written, *parts):  # the half-written files come from a killed process
            file.filesystem.rm_file(file.path)
        if not resumed:
            self._manifest.start(made_by)

    def admit(self, tables: Mapping[str, Sequence[str]]) -> None:
        """Records the parquet files of a run in an open store, because two files may use the same names for images.

        Args:
            tables: The names of the images of each file, as `names_by_table` returns them.

        Raises:
            ValueError: If a new file holds a name that already has a row.
        """
        self._manifest.admit(tables, self.done)

    def done(self) -> set[str]:
        """Returns the names of the images that have a row.

        Raises:
            ValueError: If a part cannot be read.
        """
        return set(self.read(["path"]).column("path").to_pylist())

    def forget_errors(self) -> None:
        """Deletes the rows of images that could not be read, so that a run tries these again."""
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        for part in self._parts():
            table = pq.read_table(part.path, filesystem=part.filesystem, schema=_schema())
            kept = table.filter(pc.is_null(table.column("error")))
            if not len(kept):
                part.filesystem.rm_file(part.path)
            elif len(kept) < len(table):
                self._write_table(part, kept)

    def counts(self) -> tuple[int, int]:
        """Returns the number of rows, and the number of rows for images that could not be read."""
        errors = self.read(["error"]).column("error")
        return len(errors), len(errors) - errors.null_count

    def repeated(self) -> list[str]:
        """Returns the names of images that have more than one row, because two runs wrote at the same time."""
        counts = collections.Counter(self.read(["path"]).column("path").to_pylist())
        return [name for name, count in counts.items() if count > 1]

    def best(self) -> dict[str, int]:
        """Returns the number of images whose best class has each name, the most frequent first."""
        labels = self.read(["labels"]).column("labels").to_pylist()
        return dict(collections.Counter(names[0] for names in labels if names).most_common())

    def write(self, predictions: Sequence[Prediction]) -> None:
        """Writes a part. The names of its images determine the file name, so writing a part twice replaces it."""
        import pyarrow as pa

        paths = [prediction.path for prediction in predictions]
        nothing = dict.fromkeys(("classes", "labels", "scores"))
        rows = [vars(prediction) | (nothing if prediction.error else {}) for prediction in predictions]
        digest = hashlib.sha256(json.dumps(paths).encode()).hexdigest()[:20]
        self._write_table(self.location / f"{_PART}{digest}{_SUFFIX}", pa.Table.from_pylist(rows, _schema()))

    def read(self, columns: list[str] | None = None) -> "pa.Table":
        """Reads all rows.

        Args:
            columns: The columns to read; None for all.

        Raises:
            ValueError: If a part cannot be read.
        """
        import pyarrow as pa
        import pyarrow.dataset

        paths = [part.path for part in self._parts()]
        dataset = pa.dataset.dataset(paths, _schema(), filesystem=self.location.filesystem, format="parquet")
        try:
            return dataset.to_table(columns=columns)
        except pa.ArrowInvalid as error:
            raise ValueError(
                f"A part of {self.location.name} cannot be read; delete it and run again: {error}"
            ) from error

    def _parts(self) -> list[Location]:
        files = self._files()
        return [file for name, file in files.items() if name.startswith(_PART) and name.endswith(_SUFFIX)]

    def _files(self) -> dict[str, Location]:
        filesystem = self.location.filesystem
        filesystem.invalidate_cache()  # another process may have written
        try:
            listed = filesystem.ls(self.location.path, detail=True)
        except FileNotFoundError:
            return {}
        names = (entry["name"].rpartition("/")[2] for entry in listed if entry["type"] != "directory")
        return {name: self.location / name for name in sorted(filter(None, names))}

    def _write_table(self, location: Location, table: "pa.Table") -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer)
        location.write(buffer.getvalue().to_pybytes())


def _schema() -> "pa.Schema":
    import pyarrow as pa

    return pa.schema(
        {
            "path": pa.string(),
            "classes": pa.list_(pa.int32()),
            "labels": pa.list_(pa.string()),
            "scores": pa.list_(pa.float32()),
            "error": pa.string(),
        }
    )
