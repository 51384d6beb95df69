"""The manifest of predictions on disk: how they were made, and which parquet files their images come from."""

import json
from collections.abc import Callable, Mapping, Sequence

from keras_mixer.prediction.locations import Location

_TABLES = "tables"  # key in the file, beside those of `made_by`


class Manifest:
    """A JSON file that belongs to an output. It can be pickled and sent to another process.

    Args:
        file: Where it is.
        output: The name of the output in messages.
    """

    def __init__(self, file: Location, output: str):
        self.file, self._output = file, output

    def start(self, made_by: dict) -> None:
        """Records how the predictions of a new output are made, as JSON values."""
        self._write(made_by)

    def made_by(self) -> dict:
        """Returns what `start` recorded; raises ValueError if the file is damaged."""
        return {name: value for name, value in self._read().items() if name != _TABLES}

    def check(self, made_by: dict) -> None:
        """Raises ValueError if the predictions were made with other settings than this run's, or it is damaged."""
        before = self.made_by()
        different = sorted(name for name in made_by | before if made_by.get(name) != before.get(name))
        if different:
            changes = (f"{name} {before.get(name)!r} then, {made_by.get(name)!r} now" for name in different)
            raise ValueError(
                f"{self._output} holds predictions that were made differently: {', '.join(changes)}. Choose another "
                f"output, or pass --restart to delete them."
            )

    def admit(self, tables: Mapping[str, Sequence[str]], done: Callable[[], set[str]]) -> None:
        """Records the parquet files of a run, because two files may use the same names for images.

        Args:
            tables: The names of the images of each file, as `names_by_table` returns them.
            done: Returns the names of the images that have a row.

        Raises:
            ValueError: If a new file holds a name that already has a row.
        """
        values = self._read()
        known = values.get(_TABLES, [])
        new = sorted(tables.keys() - set(known))
        names_done = done() if new else set()
        for table in new:
            same = [name for name in tables[table] if name in names_done]
            if same:
                raise ValueError(
                    f"{table} is new in {self._output}, but {len(same):,} of its images have names that are done, such "
                    f"as {same[0]!r}, so their predictions could not be told apart. Choose another output for it, or "
                    f"pass --restart and name a column of unique values for all tables with --id-column."
                )
        if new:
            self._write({**values, _TABLES: [*known, *new]})

    def _read(self) -> dict:
        try:
            return dict(json.loads(self.file.read()))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{self.file.name} is damaged ({error}): choose another output, or pass --restart."
            ) from error

    def _write(self, values: dict) -> None:
        self.file.write((json.dumps(values, indent=2) + "\n").encode())
