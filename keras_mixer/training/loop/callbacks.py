"""The callbacks of a run: its clock, evaluation, progress bar, checkpoints, and a stop at NaN."""

import contextlib
import dataclasses
import math
import os
import signal
import threading
import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_mixer.progress import Progress
from keras_mixer.training.devices.distribution import Distribution
from keras_mixer.training.loop.checkpoints import CheckpointStore, gather, restore_metrics
from keras_mixer.training.loop.data import Datasets
from keras_mixer.training.loop.step import evaluate

AGREE_EVERY = 10  # steps between two exchanges in which the processes of a cluster agree whether to stop
SLOW_STEP = 1.0  # seconds; with slower steps they ask after each one, because a kill often follows SIGTERM after 30 s
STOPPING = b"Stopping after this step, and saving. A second Ctrl-C stops at once without saving.\n"


class TrainingDivergedError(RuntimeError):
    """The loss or a weight is no longer finite. The last checkpoint was written before that."""


def diverged(what: str, store: CheckpointStore) -> TrainingDivergedError:
    """Returns an error that says what is not finite and names the last checkpoint."""
    steps = store.steps()
    kept = f"The checkpoint of step {steps[-1]} is kept in {store.folder}." if steps else "There is no checkpoint yet."
    return TrainingDivergedError(f"{what}. {kept} Lower optimizer.learning_rate or lengthen schedule.warmup_steps.")


@dataclasses.dataclass(eq=False)
class Clock(keras.callbacks.Callback):
    """The state of a whole run, across calls of `fit` and restarts. It counts updates and time."""

    step: int = 0  # updates made
    before: float = 0.0  # seconds that earlier processes spent training
    rows: list[dict] = dataclasses.field(default_factory=list)  # the history
    metrics: dict = dataclasses.field(default_factory=dict)  # running metrics of an interrupted period

    def __post_init__(self):
        super().__init__()
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time spent training, in this process and earlier ones."""
        return self.before + time.monotonic() - self._started

    def on_train_batch_end(self, batch, logs=None):
        # `_model`, because on JAX `model` fetches the whole state at each access.
        self.step += self._model.steps_per_execution

    def notes(self, datasets: Datasets) -> dict:
        """Returns the contents of a checkpoint other than the arrays."""
        return {
            "rows": self.rows,
            "seconds": self.seconds,
            "recipe": datasets.recipe.to_json(),
            "data": datasets.fingerprint,
            "replicas": datasets.distribution.drawing_replicas,
            "processes": datasets.distribution.workers,
        }


@dataclasses.dataclass(eq=False)
class StopOnNaN(keras.callbacks.Callback):
    """Stops when the running loss is not finite.

    In a cluster, each process knows only the loss of its own examples. If one process stopped alone, the others would
    wait for its gradients. They therefore stop together, when `Checkpointing` makes them compare.
    """

    clock: Clock
    store: CheckpointStore
    distribution: Distribution

    def __post_init__(self):
        super().__init__()
        self._loss = 0.0

    def on_train_batch_end(self, batch, logs=None):
        self._loss = logs["loss"]
        if self.distribution.workers == 1:
            self.check()

    def check(self) -> None:
        """Raises TrainingDivergedError if the loss of any process is not finite. All processes must call together."""
        finite = math.isfinite(self._loss)
        if self.distribution.anywhere(not finite):
            found = "not finite in another process" if finite else self._loss
            raise diverged(f"The loss at step {self.clock.step} is {found}", self.store)


@dataclasses.dataclass(eq=False)
class Evaluation(keras.callbacks.Callback):
    """Evaluates after each period, with the averaged weights if there are any, and adds a row to the history."""

    clock: Clock
    datasets: Datasets

    def __post_init__(self):
        super().__init__()
        self._batches, self._steps = self.datasets.evaluation(self.datasets.eval_source)

    def on_epoch_begin(self, epoch, logs=None):
        if self.clock.metrics:
            restore_metrics(self.model, self.clock.metrics)
            self.clock.metrics = {}

    def on_epoch_end(self, epoch, logs=None):
        measured = evaluate(self.model, self._batches, self._steps)
        logs.pop("cross_entropy")
        logs["val_loss"], logs["val_accuracy"] = measured["cross_entropy"], measured["accuracy"]
        # The rate of the last update; the optimizer's counter is one ahead.
        rate = self.model.optimizer._learning_rate(self.clock.step - 1)
        logs["learning_rate"] = float(keras.ops.convert_to_numpy(rate))
        step, seconds = self.clock.step, self.clock.seconds
        row = {"step": step, "epoch": round(step / self.datasets.steps_per_epoch, 4), "seconds": round(seconds, 3)}
        self.clock.rows.append(row | {name: float(value) for name, value in logs.items()})


def best_row(rows: Sequence[dict]) -> int:
    """Returns the index of the row with the lowest loss on the evaluation split, or the first of several."""
    return min(range(len(rows)), key=lambda place: rows[place]["val_loss"])


def is_over(rows: Sequence[dict], patience: int | None) -> bool:
    """Returns whether the last `patience` rows of the history have not lowered the loss; None never ends a run."""
    return patience is not None and bool(rows) and len(rows) - 1 - best_row(rows) >= patience


@dataclasses.dataclass(eq=False)
class EarlyStopping(keras.callbacks.Callback):
    """Keeps the weights of the best evaluation and ends the run when `is_over`. `Evaluation` must come before it."""

    clock: Clock
    store: CheckpointStore  # of the best weights
    datasets: Datasets

    def __post_init__(self):
        super().__init__()

    def on_epoch_end(self, epoch, logs=None):
        rows = self.clock.rows
        if best_row(rows) == len(rows) - 1:
            arrays = gather(self.model)
            if self.datasets.distribution.worker == 0:
                self.store.save(self.clock.step, arrays, self.clock.notes(self.datasets))
        if is_over(rows, self.datasets.recipe.early_stopping):
            self.model.stop_training = True


class ProgressBar(Progress, keras.callbacks.Callback):
    """Shows step, loss, accuracy, images per second and the time left; a context manager."""

    def __init__(self, clock: Clock, total_steps: int, batch_size: int):
        keras.callbacks.Callback.__init__(self)
        Progress.__init__(self, "Training", total_steps, "step", clock.step)
        self._clock = clock
        self._batch_size = batch_size
        self._started, self._first_step = time.monotonic(), clock.step
        self._validation = ""

    def on_train_batch_end(self, batch, logs=None):
        self.update(self._clock.step, lambda: self._note(logs))

    def on_epoch_end(self, epoch, logs=None):
        self._validation = f"  evaluated {logs['val_accuracy']:.2%}"
        self.update(self._clock.step, lambda: self._note(logs), now=self._clock.step >= self._total)

    def _note(self, logs) -> str:
        seconds = max(time.monotonic() - self._started, 1e-9)
        rate = (self._clock.step - self._first_step) * self._batch_size / seconds
        loss, accuracy = float(logs["loss"]), float(logs["accuracy"])
        return f"loss {loss:.4f}  accuracy {accuracy:.2%}{self._validation}  {rate:,.0f} images/s"


@dataclasses.dataclass(eq=False)
class Checkpointing(keras.callbacks.Callback):
    """Writes checkpoints: after some steps or minutes, at the end of `fit`, and when the run is interrupted.

    Ctrl-C or SIGTERM takes effect after the current step. A second Ctrl-C stops immediately. In a cluster, one
    interrupted process stops all of them at the same step, because the others would wait for its gradients. At the end
    of a period and every `AGREE_EVERY` steps, the processes exchange interruptions, finite losses and the time of the
    last checkpoint. They do so after each step if the steps of any process take longer than `SLOW_STEP`.
    `Evaluation` must come before this callback, because its row of the history belongs in the checkpoint.
    """

    stop_on_nan: StopOnNaN
    datasets: Datasets

    def __post_init__(self):
        super().__init__()
        self.clock, self.store, self.distribution = (
            self.stop_on_nan.clock,
            self.stop_on_nan.store,
            self.stop_on_nan.distribution,
        )
        self._agreed = self._saved = self.clock.step
        self._agreed_at = self._saved_at = time.monotonic()
        self._interval = 1  # until the time of a step is known
        self._signal: int | None = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, kind, *_):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        # A signal may also come after the last step, such as during the last save.
        if kind is None and self.distribution.anywhere(self._signal is not None):
            raise KeyboardInterrupt

    def _on_signal(self, number, frame):
        del frame
        self._signal = number
        with contextlib.suppress(OSError):  # the process may have no standard error
            os.write(2, STOPPING)  # not `print`, which the signal may have interrupted
        # A second signal stops at once.
        signal.signal(number, signal.default_int_handler)

    def on_train_batch_end(self, batch, logs=None):
        if self.clock.step % self.datasets.period and self.clock.step != self.datasets.total_steps:
            self._save_if_due(self.distribution.workers == 1 or self.clock.step - self._agreed >= self._interval)

    def on_epoch_end(self, epoch, logs=None):
        self._save_if_due(agree=True)

    def _save_if_due(self, agree: bool) -> None:
        execution = self.datasets.recipe.execution
        due = self.clock.step - self._saved >= execution.checkpoint_steps or self.clock.step == self.store.always
        if agree:
            self.stop_on_nan.check()
            self._set_interval()
            if self.distribution.anywhere(self._signal is not None):
                self.save()
                self.distribution.anywhere(False)  # the others wait until the first has written
                raise KeyboardInterrupt
            late = time.monotonic() - self._saved_at >= 60.0 * execution.checkpoint_minutes
            due = due or self.distribution.anywhere(late)
        if due:
            self.save()

    def _set_interval(self) -> None:
        """Chooses the steps until the processes ask each other again; all of them choose the same number."""
        now, steps = time.monotonic(), self.clock.step - self._agreed
        if steps:  # 0 if they have just asked after the last step of a period
            slow = self.distribution.anywhere(now - self._agreed_at >= SLOW_STEP * steps)
            self._interval = 1 if slow else AGREE_EVERY
        self._agreed, self._agreed_at = self.clock.step, now

    def save(self) -> None:
        """Writes a checkpoint unless this step has one.

        Raises:
            TrainingDivergedError: If a variable is not finite; nothing is written.
        """
        if self.clock.step == self._saved:
            return
        arrays = gather(self.model)
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise diverged(f"A weight after step {self.clock.step} is not finite", self.store)
        if self.distribution.worker == 0:
            self.store.save(self.clock.step, arrays, self.clock.notes(self.datasets))
        self._saved, self._saved_at = self.clock.step, time.monotonic()
