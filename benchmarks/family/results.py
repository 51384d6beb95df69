"""Measurements in processes of their own, each kept as a JSON file as soon as it is done."""

import datetime
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Collection
from typing import Any

from benchmarks.speed.table import machine
from keras_mixer.files import written_whole

# glibc hands freed memory back to the system at some calls and not at others, which is worth as much as a form is:
# with these it keeps it.
KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**30)}


class Results:
    """A folder of measurements; what is there is not measured again.

    Args:
        folder: Made at the first measurement.
        kinds: What may be measured; of anything else only what is there is given.

    Attributes:
        made: Day and machine of every result that was given.
    """

    def __init__(self, folder: pathlib.Path, kinds: Collection[str]):
        self.folder = folder
        self.kinds = kinds
        self.made: set[str] = set()

    def of_variant(self, kind: str, variant: str, settings: dict[str, Any], **further: Any) -> dict | None:
        """Returns what a command of `benchmarks.family.measure` finds for a variant.

        Args:
            kind: The command.
            variant: Its argument.
            settings: Those of its options that a result is true for; None leaves one out.
            **further: Its other options, as where the data lie.

        Returns:
            The result; None if it is not there and not to be measured.
        """
        settings = {key: value for key, value in settings.items() if value is not None}
        name = "-".join([kind, variant, *(f"{key}{value}" for key, value in settings.items())])
        options = [part for key, value in {**settings, **further}.items() for part in (f"--{key}", str(value))]
        return self._kept(kind, name, ["benchmarks.family.measure", kind, variant, *options], {})

    def of_cycle_fc(self, backend: str) -> dict | None:
        """Returns the times of CycleFC and of its naive forms on a backend, or None likewise."""
        environment = {"KERAS_BACKEND": backend, **KEPT_MEMORY}
        return self._kept("cycle_fc", f"cycle_fc-{backend}", ["benchmarks.family.cycle_fc"], environment)

    def _kept(self, kind: str, name: str, module: list[str], environment: dict[str, str]) -> dict | None:
        path = self.folder / f"{name}.json"
        if not path.exists():
            if kind not in self.kinds:
                return None
            print(f"Measuring {name}", file=sys.stderr, flush=True)
            command, environment = [sys.executable, "-m", *module], {**os.environ, **environment}
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
            made = f"{datetime.date.today()}, {machine()}"
            with written_whole(path) as partial:
                partial.write_text(json.dumps({"made": made, "result": json.loads(done.stdout.splitlines()[-1])}))
        kept = json.loads(path.read_text())
        self.made.add(kept["made"])
        return kept["result"]
