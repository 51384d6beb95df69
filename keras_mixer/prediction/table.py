"""Predictions in one local file, CSV or JSON lines. An interrupted run can be resumed."""

import collections
import csv
import io
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from keras_mixer.files import written_whole
from keras_mixer.prediction.locations import Location, locate
from keras_mixer.prediction.manifest import Manifest
from keras_mixer.prediction.store import Prediction

CSV, JSON_LINES = (".csv",), (".jsonl", ".ndjson")
_OTHER_FILES = (
    *(".json", ".tsv", ".txt", ".xls", ".xlsx", ".ods", ".html", ".xml"),
    *(".gz", ".bz2", ".xz", ".zst", ".zip", ".tar", ".tgz"),
)
_MANIFEST = ".manifest.json"  # appended to the name of the file


def is_table(output: str | os.PathLike) -> bool:
    """Returns whether the suffix of an output means one file of rows.

    Raises:
        ValueError: If the output is `-`, or has the suffix of a file that cannot be written or continued.
    """
    suffix = pathlib.PurePath(output).suffix.lower()
    if suffix in _OTHER_FILES or os.fspath(output) == "-":
        raise ValueError(
            f"{output} would be a folder of parquet files: end it in {CSV[0]} or {JSON_LINES[0]} for a file of rows, "
            f"or choose another name for a folder."
        )
    return suffix in CSV + JSON_LINES


class PredictionTable:
    """The predictions of one model in a file, one row per image, with the methods of `PredictionStore`.

    JSON lines hold `path`, `classes`, `labels`, `scores` and `error`. CSV has the columns `path`, `label_1`, `score_1`
    and so on up to the number of classes per image, and `error`. A second file, whose name has `.manifest.json`
    appended, records how the rows were made. If a killed process left part of a row, the part is removed.

    Args:
        path: The file, which ends in `.csv`, `.jsonl` or `.ndjson`.

    Raises:
        ValueError: If the file is not on this machine.

    Example:
        >>> table = keras_mixer.prediction.PredictionTable("predictions.csv")
        >>> table.open({"model": fingerprint("runs/digits"), "top": 5})
    """

    def __init__(self, path: str | os.PathLike):
        self.location: Location = locate(path)
        if not self.location.is_local:
            raise ValueError(f"{path} is not on this machine, where rows can be appended: name a folder for parquet.")
        self.path = pathlib.Path(self.location.path)
        manifest = Location(self.location.filesystem, self.location.path + _MANIFEST)
        self._manifest = Manifest(manifest, self.location.name)
        self._as_csv = self.path.suffix.lower() in CSV

    def open(self, made_by: dict, *, restart: bool = False) -> None:
        """Prepares the file for a run, as `PredictionStore.open` does."""
        known = os.path.exists(self._manifest.file.path)
        if self.path.exists() and not known:
            raise ValueError(f"{self.path} is a file that this command did not write: choose another name.")
        if known and not restart:
            self._manifest.check(made_by)
            if self.path.exists():
                self._cut()
        if restart or not self.path.exists():
            self._manifest.start(made_by)
            with written_whole(self.path) as partial:
                partial.write_bytes(self._header(made_by["top"]).encode())

    def admit(self, tables: Mapping[str, Sequence[str]]) -> None:
        """Records the parquet files of a run, as `PredictionStore.admit` does."""
        self._manifest.admit(tables, self.done)

    def done(self) -> set[str]:
        """Returns the names of the images that have a row."""
        return {path for path, _, _ in self._rows()}

    def forget_errors(self) -> None:
        """Deletes the rows of images that could not be read, so that a run tries these again."""
        if self.counts()[1]:
            good = [self._text(record) for record in self._records() if self._row(record)[2] is None]
            header = self._header(self._manifest.made_by()["top"])
            with written_whole(self.path) as partial:
                partial.write_bytes((header + "".join(good)).encode())

    def counts(self) -> tuple[int, int]:
        """Returns the number of rows, and the number of rows for images that could not be read."""
        errors = [error is not None for _, _, error in self._rows()]
        return len(errors), sum(errors)

    def repeated(self) -> list[str]:
        """Returns the names of images that have more than one row, because two runs wrote at the same time."""
        counts = collections.Counter(path for path, _, _ in self._rows())
        return [path for path, count in counts.items() if count > 1]

    def best(self) -> dict[str, int]:
        """Returns the number of images whose best class has each name, the most frequent first."""
        return dict(collections.Counter(label for _, label, _ in self._rows() if label is not None).most_common())

    def write(self, predictions: Sequence[Prediction]) -> None:
        """Appends a row for each image."""
        top = self._manifest.made_by()["top"]
        text = "".join(self._line(prediction, top) for prediction in predictions)
        with self.path.open("ab") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())

    def _header(self, top: int) -> str:
        if not self._as_csv:
            return ""
        columns = [f"{name}_{rank}" for rank in range(1, top + 1) for name in ("label", "score")]
        return self._text(["path", *columns, "error"])

    def _line(self, prediction: Prediction, top: int) -> str:
        if not self._as_csv:
            return self._text(vars(prediction))
        pairs = zip(prediction.labels, prediction.scores, strict=True)
        cells = [cell for label, score in pairs for cell in (label, f"{score:.6g}")]
        return self._text([prediction.path, *cells, *[""] * (2 * top - len(cells)), prediction.error or ""])

    def _text(self, record: Any) -> str:
        """Returns the text of a record: a list of cells for CSV, or a dictionary for JSON lines."""
        if not self._as_csv:
            return json.dumps(record, ensure_ascii=False) + "\n"
        text = io.StringIO()
        csv.writer(text, lineterminator="\r\n").writerow(record)  # quotes cells with either of these
        return text.getvalue().removesuffix("\r\n") + "\n"

    def _row(self, record: Any) -> tuple[str, str | None, str | None]:
        """Returns path, best label and error of a record."""
        if self._as_csv:
            return record[0], record[1] or None, record[-1] or None
        return record["path"], next(iter(record["labels"]), None), record["error"]

    def _rows(self) -> Iterator[tuple[str, str | None, str | None]]:
        return map(self._row, self._records())

    def _records(self, file: BinaryIO | None = None) -> Iterator[Any]:
        """Yields the records of the table, or of `file`. Other programs may add a byte order mark and blank lines."""
        with io.TextIOWrapper(file or self.path.open("rb"), "utf-8-sig", newline="") as lines:
            try:
                yield from self._checked(lines)
            except (ValueError, csv.Error) as error:
                raise ValueError(
                    f"{self.path} was changed by another program ({error}): restore it, pass --restart, or choose "
                    f"another name."
                ) from error

    def _checked(self, lines: Iterable[str]) -> Iterator[Any]:
        if not self._as_csv:
            expected = vars(Prediction("")).keys()
            for line in filter(str.strip, lines):
                record = json.loads(line)
                if not isinstance(record, dict) or record.keys() != expected:
                    raise ValueError(f"a line holds {line.strip()[:80]}")
                yield record
            return
        header = self._header(self._manifest.made_by()["top"])
        records = filter(any, csv.reader(lines))
        first = next(records, [])
        if self._text(first) != header:
            raise ValueError(f"it begins with {','.join(first)[:80]!r}, not with {header.strip()}")
        for record in records:
            if len(record) != len(first):
                raise ValueError(f"the row of {record[0]} has {len(record)} cells, not {len(first)}")
            yield record

    def _cut(self) -> None:
        """Removes a row that a killed process did not finish. The row may contain line breaks in a quoted name.

        Raises:
            ValueError: If the other rows are not as they were written. Nothing is removed then.
        """
        content = self.path.read_bytes()
        end = content.rfind(b"\n") + 1
        while self._as_csv and content.count(b'"', 0, end) % 2:
            end = content.rfind(b"\n", 0, end - 1) + 1
        for _ in self._records(io.BytesIO(content[:end])):
            pass
        if end < len(content):
            os.truncate(self.path, end)
