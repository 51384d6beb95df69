"""Starts a worker for each row and lets them take turns, so that a slow minute of the machine hits all alike."""

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from unittest import mock

from rich.progress import Progress

from benchmarks.speed.rows import ENVIRONMENTS, Row
from benchmarks.speed.sizes import flops_per_image

OUT_OF_TIME = "out of time"
WORKER = pathlib.Path(__file__).with_name("worker.py")
START_SECONDS = 240.0  # for imports, conversion and compilation
ROW_SECONDS = 20.0  # after which a row takes no further turn, as on a processor that emulates its dtype


@dataclasses.dataclass
class Measurement:
    """What was measured of one row; `error` says why it was not."""

    row: Row
    seconds: list[float] = dataclasses.field(default_factory=list)
    matmul_flops: list[float] = dataclasses.field(default_factory=list)
    versions: dict = dataclasses.field(default_factory=dict)
    note: str | None = None
    turns_seconds: float = 0.0
    error: str | None = None

    @property
    def images_per_second(self) -> float:
        """Median over the rounds."""
        return self.row.batch / statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the range between the quartiles, as a share of the median."""
        if len(self.seconds) < 4:
            return 0.0
        first, _, third = statistics.quantiles(self.seconds, n=4)
        return (third - first) / 2 / statistics.median(self.seconds)

    @property
    def flops(self) -> float:
        """Floating-point operations of the products per second."""
        return self.images_per_second * flops_per_image(self.row.variant, self.row.task)

    @property
    def of_peak(self) -> float | None:
        """Share of the matmul rate that the same process reached between its steps."""
        return self.flops / statistics.median(self.matmul_flops) if self.matmul_flops else None


def measure(
    rows: list[Row], rounds: int, environments: pathlib.Path | None, seconds: float | None = None
) -> list[Measurement]:
    """Measures rows in turn, `rounds` times over.

    Args:
        rows: What to measure.
        rounds: Turns of each row.
        environments: Folder of the peers' virtual environments, made where missing; None to keep nothing.
        seconds: Time for all of it; what is not ready by then is not measured. None for no limit.
    """
    end = time.monotonic() + (math.inf if seconds is None else seconds)
    measurements = [Measurement(row) for row in rows]
    with contextlib.ExitStack() as stack:
        scratch = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = environments or scratch
        # The engines convert models and remember rates in Keras's cache folder: all rows share one that is empty.
        stack.enter_context(mock.patch.dict(os.environ, {"KERAS_HOME": str(scratch / "keras_home")}))
        bar = stack.enter_context(Progress(transient=True))
        for group in dict.fromkeys(row.group for row in rows):
            _measure_group([m for m in measurements if m.row.group == group], rounds, folder, bar, end)
    return measurements


def _measure_group(
    measurements: list[Measurement], rounds: int, folder: pathlib.Path, bar: Progress, end: float
) -> None:
    with contextlib.ExitStack() as stack:
        starting = bar.add_task("Starting workers", total=len(measurements))
        workers = []
        for measurement in measurements:
            workers.append(_start(measurement, folder, stack, end))
            bar.advance(starting)
        task = bar.add_task(f"Measuring {', '.join(measurements[0].row.group)}", total=rounds * len(measurements))
        for _ in range(rounds):
            for measurement, worker in zip(measurements, workers, strict=True):
                if measurement.error is None and worker.poll() is None and measurement.turns_seconds < ROW_SECONDS:
                    _one_turn(measurement, worker, end)
                bar.advance(task)


def _start(
    measurement: Measurement, folder: pathlib.Path, stack: contextlib.ExitStack, end: float
) -> subprocess.Popen | None:
    row = measurement.row
    if time.monotonic() > end:
        measurement.error = OUT_OF_TIME
        return None
    try:
        python = sys.executable if row.environment == "project" else _environment(row.environment, folder)
    except (OSError, subprocess.CalledProcessError) as error:
        measurement.error = f"environment {row.environment!r} could not be made: {error}"
        return None
    worker = subprocess.Popen(
        [str(python), str(WORKER), json.dumps(dataclasses.asdict(row))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=WORKER.parent.parent.parent,
        start_new_session=True,
    )
    stack.callback(worker.communicate)  # waits, and closes the pipes
    stack.callback(_kill, worker)
    answer = _answer(worker, min(end, time.monotonic() + START_SECONDS))
    measurement.error, measurement.versions = answer.get("error"), answer.get("versions", {})
    measurement.note = answer.get("note")
    return worker


def _one_turn(measurement: Measurement, worker: subprocess.Popen, end: float) -> None:
    began = time.monotonic()
    worker.stdin.write("turn\n")
    worker.stdin.flush()
    answer = _answer(worker, end)
    measurement.turns_seconds += time.monotonic() - began
    if "error" in answer:
        if not measurement.seconds:  # earlier turns count
            measurement.error = answer["error"]
        return
    measurement.seconds.extend(answer["seconds"])
    if answer["matmul_flops"]:
        measurement.matmul_flops.append(answer["matmul_flops"])


def _answer(worker: subprocess.Popen, end: float) -> dict:
    left = None if end == math.inf else max(end - time.monotonic(), 0.0)
    if not select.select([worker.stdout], [], [], left)[0]:
        _kill(worker)
        return {"error": OUT_OF_TIME}
    line = worker.stdout.readline()
    return json.loads(line) if line else {"error": f"the worker ended with status {worker.wait()}"}


def _kill(worker: subprocess.Popen) -> None:
    """Kills a worker and the processes that it has started, such as an engine's, which may be computing."""
    if worker.poll() is None:
        os.killpg(worker.pid, signal.SIGKILL)


def _environment(name: str, folder: pathlib.Path) -> pathlib.Path:
    python = folder / name / "bin" / "python"
    done = folder / name / "complete"
    if not done.exists():
        requirements, without_dependencies = ENVIRONMENTS[name]
        venv.create(folder / name, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, *requirements], check=True, capture_output=True)
        if without_dependencies:
            subprocess.run([*pip, "--no-deps", *without_dependencies], check=True, capture_output=True)
        done.touch()
    return python
