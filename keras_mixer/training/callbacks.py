"""Callbacks of a run: checkpoints and interruption, NaN, evaluation and history, and the progress bar."""

import math
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_mixer.training.checkpoints import CheckpointStore, gather, restore_metrics


class TrainingDivergedError(RuntimeError):
    """The loss or a weight is no longer a finite number; the last checkpoint is from before."""


class Clock(keras.callbacks.Callback):
    """Counts the updates of the whole run, over calls of `fit` and restarts.

    Attributes:
        step: Updates made so far.
        seconds: Time spent training, this process and earlier ones.
    """

    def __init__(self, step: int, seconds: float):
        super().__init__()
        self.step = step
        self._before = seconds
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        return self._before + time.monotonic() - self._started

    def on_train_batch_end(self, batch, logs=None):
        # `_model`, for on JAX `model` fetches the whole state at each access.
        self.step += self._model.steps_per_execution


class StopOnNaN(keras.callbacks.Callback):
    """Stops when the running loss is not finite.

    The loss of a call is read when the next one is under way, so that a GPU or TPU never waits for it; the error still
    names the step of the loss.
    """

    def __init__(self, clock: Clock, store: CheckpointStore):
        super().__init__()
        self._clock = clock
        self._store = store
        self._pending: tuple[int, object] | None = None

    def on_train_batch_end(self, batch, logs=None):
        pending, self._pending = self._pending, (self._clock.step, logs["loss"])
        self._check(pending)

    def settle(self) -> None:
        """Checks the loss that is still pending."""
        pending, self._pending = self._pending, None
        self._check(pending)

    def on_epoch_end(self, epoch, logs=None):
        self.settle()

    def _check(self, pending):
        if pending is not None and not math.isfinite(float(pending[1])):
            raise diverged(f"The loss at step {pending[0]} is {float(pending[1])}", self._store)


class Checkpointing(keras.callbacks.Callback):
    """Writes checkpoints: every so many steps, at the end of `fit`, and when the run is interrupted.

    Interruption (Ctrl-C or SIGTERM) takes effect after the step that is under way; a second Ctrl-C stops at once.
    At the end of a period both wait for `Evaluation`, which must come first: its row of the history belongs in the
    checkpoint.

    Args:
        store: Where checkpoints go.
        every: Updates between two checkpoints.
        clock: Counts the updates.
        guard: Checks the loss before it is trusted.
        notes: Returns what else to write.
        ends_period: Says whether a step is the last of its period.
        writes: Whether this process writes.
    """

    def __init__(
        self,
        store: CheckpointStore,
        every: int,
        clock: Clock,
        guard: StopOnNaN,
        notes: Callable[[], dict],
        ends_period: Callable[[int], bool],
        writes: bool,
    ):
        super().__init__()
        self._store = store
        self._every = every
        self._clock = clock
        self._guard = guard
        self._notes = notes
        self._ends_period = ends_period
        self._writes = writes
        self._saved = clock.step
        self._signal: int | None = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _on_signal(self, number, frame):
        del frame
        self._signal = number
        # The second one is not held back.
        signal.signal(number, signal.default_int_handler)

    def on_train_batch_end(self, batch, logs=None):
        if not self._ends_period(self._clock.step):
            self._save_if_due()

    def on_epoch_end(self, epoch, logs=None):
        self._save_if_due()

    def _save_if_due(self) -> None:
        if self._signal is not None:
            self.save()
            raise KeyboardInterrupt
        if self._clock.step - self._saved >= self._every:
            self.save()

    def save(self) -> None:
        """Writes a checkpoint, unless one of this step is there.

        Raises:
            TrainingDivergedError: If the loss or a variable is not finite; nothing is written.
        """
        if self._clock.step == self._saved:
            return
        self._guard.settle()
        arrays = gather(self.model)
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise diverged(f"A weight after step {self._clock.step} is not finite", self._store)
        if self._writes:
            self._store.save(self._clock.step, arrays, self._notes())
        self._saved = self._clock.step


class Evaluation(keras.callbacks.Callback):
    """Evaluates after each period, with the averaged weights if there are any, and keeps the history.

    Args:
        batches: Evaluation batches `(images, one-hot labels, weights)`, all of one size.
        steps: Number of evaluation batches.
        clock: Counts the updates.
        steps_per_epoch: Updates in one pass over the training split.
        rows: The history so far, added to in place.
        metrics: Running metrics of a period that was cut short, by name; used once.
    """

    def __init__(self, batches, steps: int, clock: Clock, steps_per_epoch: float, rows: list[dict], metrics: dict):
        super().__init__()
        self._batches = batches
        self._steps = steps
        self._clock = clock
        self._steps_per_epoch = steps_per_epoch
        self._rows = rows
        self._metrics = metrics

    def on_epoch_begin(self, epoch, logs=None):
        if self._metrics:
            restore_metrics(self.model, self._metrics)
            self._metrics = {}

    def on_epoch_end(self, epoch, logs=None):
        measured = evaluate(self.model, self._batches, self._steps)
        logs.pop("cross_entropy")
        logs["val_loss"], logs["val_accuracy"] = measured["cross_entropy"], measured["accuracy"]
        # The rate of the last update, which the optimizer's counter has passed by one.
        rate = self.model.optimizer._learning_rate(self._clock.step - 1)
        logs["learning_rate"] = float(keras.ops.convert_to_numpy(rate))
        self._rows.append(
            {
                "step": self._clock.step,
                "epoch": round(self._clock.step / self._steps_per_epoch, 4),
                **{name: float(value) for name, value in logs.items()},
                "seconds": round(self._clock.seconds, 3),
            }
        )


def evaluate(model: keras.Model, batches, steps: int) -> dict[str, float]:
    """Returns accuracy and cross-entropy over `steps` batches, by the averaged weights if the optimizer keeps them."""
    steps_per_execution, model.steps_per_execution = model.steps_per_execution, 1
    try:
        with averaged_weights(model):
            return model.evaluate(batches, steps=steps, verbose=0, return_dict=True)
    finally:
        model.steps_per_execution = steps_per_execution


class averaged_weights:  # noqa: N801 - a context manager reads like a function
    """Context in which the model has the moving averages of its weights, where the optimizer keeps them."""

    def __init__(self, model: keras.Model):
        self._model = model
        self._own: list[np.ndarray] = []

    def __enter__(self):
        optimizer = self._model.optimizer
        if optimizer.use_ema:
            self._own = [keras.ops.convert_to_numpy(variable.value) for variable in self._model.trainable_variables]
            averages = optimizer._model_variables_moving_average
            for variable, average in zip(self._model.trainable_variables, averages, strict=True):
                variable.assign(keras.ops.convert_to_numpy(average.value))

    def __exit__(self, *_):
        for variable, value in zip(self._model.trainable_variables, self._own, strict=False):
            variable.assign(value)


def diverged(what: str, store: CheckpointStore) -> TrainingDivergedError:
    """Makes the error that says what is not finite and where training can go on from."""
    steps = store.steps()
    kept = f"The checkpoint of step {steps[-1]} is kept in {store.folder}." if steps else "There is no checkpoint yet."
    return TrainingDivergedError(f"{what}. {kept} Lower optimizer.learning_rate or lengthen schedule.warmup_steps.")
