"""Callbacks that watch a run: its clock, and whether its loss is still a number."""

import math
import time

import keras

from keras_mixer.training.checkpoints import CheckpointStore


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


def diverged(what: str, store: CheckpointStore) -> TrainingDivergedError:
    """Makes the error that says what is not finite and where training can go on from."""
    steps = store.steps()
    kept = f"The checkpoint of step {steps[-1]} is kept in {store.folder}." if steps else "There is no checkpoint yet."
    return TrainingDivergedError(f"{what}. {kept} Lower optimizer.learning_rate or lengthen schedule.warmup_steps.")
