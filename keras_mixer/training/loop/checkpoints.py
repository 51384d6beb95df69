"""Checkpoints of a run: every variable by name in one file. Only the last few are kept.

The format does not depend on the backend: a run that began on one backend can continue on another.
"""

import json
import logging
import os
import pathlib
import re
from collections.abc import Callable, Mapping

import keras
import numpy as np
import safetensors
import safetensors.numpy

from keras_mixer.files import remove_partial_files, written_whole

_log = logging.getLogger(__name__)

_NAME = re.compile(r"step_(\d+)\.safetensors")


class CheckpointStore:
    """Reads and writes the checkpoints of one run in `folder`. Keeps the last `kept` (at least 1) and `always`."""

    def __init__(self, folder: str | os.PathLike, kept: int = 3, always: int | None = None):
        self.folder = pathlib.Path(folder)
        self.kept = kept
        self.always = always

    def steps(self) -> list[int]:
        """Steps of the checkpoints on disk, in rising order."""
        if not self.folder.is_dir():
            return []
        matches = (_NAME.fullmatch(entry.name) for entry in self.folder.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def path(self, step: int) -> pathlib.Path:
        """The file of the checkpoint at `step`."""
        return self.folder / f"step_{step:09d}.safetensors"

    def save(self, step: int, arrays: Mapping[str, np.ndarray], notes: Mapping[str, object]) -> pathlib.Path:
        """Writes arrays by name and notes as JSON, and returns the file.

        The file is written under another name, flushed to disk and renamed. A crash or a full disk (OSError) therefore
        leaves the earlier checkpoints intact and no incomplete file. Older checkpoints are deleted when the new file is
        safely on disk. Only one process may write to the folder, because half-written files there are removed.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_partial_files(self.folder)  # each may be as large as a checkpoint
        path = self.path(step)
        # safetensors loses the shape of NumPy scalars; it keeps that of contiguous 0-d arrays.
        data = safetensors.numpy.save(
            {name: np.asarray(value, order="C") for name, value in arrays.items()}, {"notes": json.dumps(notes)}
        )
        try:
            with written_whole(path, durable=True) as partial:
                partial.write_bytes(data)
        except OSError as error:
            raise OSError(
                f"The checkpoint of step {step} could not be written to {self.folder}: {error.strerror or error}. "
                f"Earlier checkpoints are untouched; make room and run the same command again."
            ) from error
        steps = self.steps()
        later = [other for other in steps if other > step]  # of a run that was longer, or unreadable
        for other in [*steps[: -len(later) - self.kept], *later]:
            if other != self.always:
                self.path(other).unlink()
        return path

    def load_newest(
        self, accept: Callable[[int, dict], bool] | None = None
    ) -> tuple[int, dict[str, np.ndarray], dict] | None:
        """Returns step, arrays and notes of the newest readable checkpoint; None if there is none or all are skipped.

        Files for which `accept(step, notes)` is false are skipped. A warning names newer files that cannot be read.

        Raises:
            ValueError: If there are checkpoints but none can be read.
        """
        broken: list[str] = []
        skipped = False
        for step in reversed(self.steps()):
            try:
                with safetensors.safe_open(self.path(step), framework="numpy") as file:
                    notes = json.loads(file.metadata()["notes"])
                    if accept is not None and not accept(step, notes):
                        skipped = True
                        continue
                    arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
                if broken:
                    _log.warning("Going on from step %d, because %s cannot be read.", step, ", ".join(broken))
                return step, arrays, notes
            except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
                broken.append(f"{self.path(step).name} ({error})")
        if broken and not skipped:
            raise ValueError(
                f"No checkpoint in {self.folder} can be read: {', '.join(broken)}. Delete the folder to start again."
            )
        return None


def gather(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns everything that training changes: weights, optimizer, random state and running metrics, by name."""
    return {name: _read(variable) for name, variable in _variables(model).items()}


def restore(model: keras.Model, arrays: Mapping[str, np.ndarray]) -> None:
    """Restores what `gather` returned, except metrics: `fit` resets them first, and `restore_metrics` follows.

    Raises:
        ValueError: If names or shapes differ. The message lists all of them, and nothing is changed.
    """
    variables = {name: variable for name, variable in _variables(model).items() if not name.startswith("metrics/")}
    stored = {name for name in arrays if not name.startswith("metrics/")}
    wrong = sorted(variables.keys() ^ stored)
    wrong += [name for name in variables.keys() & stored if tuple(variables[name].shape) != arrays[name].shape]
    if wrong:
        raise ValueError(f"The checkpoint is of another model or optimizer; these variables differ: {wrong}.")
    for name, variable in variables.items():
        variable.assign(arrays[name])


def restore_metrics(model: keras.Model, arrays: Mapping[str, np.ndarray]) -> None:
    """Restores the running metrics of an interrupted period."""
    for name, variable in _variables(model).items():
        if name.startswith("metrics/") and name in arrays:
            variable.assign(arrays[name])


def _variables(model: keras.Model) -> dict[str, keras.Variable]:
    # Keys are positions, because Keras's names depend on how many models the process has made.
    groups = {"model": model.variables, "optimizer": model.optimizer.variables, "metrics": model.metrics_variables}
    metrics = {id(variable) for variable in groups["metrics"]}
    groups["model"] = [variable for variable in groups["model"] if id(variable) not in metrics]
    return {f"{group}/{place}": value for group, values in groups.items() for place, value in enumerate(values)}


def _read(variable: keras.Variable) -> np.ndarray:
    value = variable.value
    # TensorFlow keeps a metric's part on each device; reading it adds them up.
    return keras.ops.convert_to_numpy(value.read_value() if hasattr(value, "read_value") else value)
