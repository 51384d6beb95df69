"""Callbacks that watch a run: its clock, and whether its loss is still a number."""

import math
import time

import keras

from keras_mixer.training.checkpoints import CheckpointStore
from keras_mixer.training.distribution import Distribution


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

    In a cluster each process sees the loss of its own examples, and one that stopped alone would leave the others
    waiting for its gradients: there they stop together, when `Checkpointing` lets them ask each other.
    """

    def __init__(self, clock: Clock, store: CheckpointStore, distribution: Distribution):
        super().__init__()
        self._clock = clock
        self._store = store
        self._distribution = distribution
        self._loss = 0.0

    def on_train_batch_end(self, batch, logs=None):
        self._loss = logs["loss"]
        if self._distribution.workers == 1:
            self.check()

    def check(self) -> None:
        """Raises TrainingDivergedError if the loss is not finite in any process; all of them must ask together."""
        finite = math.isfinite(self._loss)
        if self._distribution.anywhere(not finite):
            whose = "" if not finite else "of another process "
            value = "not finite" if finite else str(self._loss)
            raise diverged(f"The loss {whose}at step {self._clock.step} is {value}", self._store)


def diverged(what: str, store: CheckpointStore) -> TrainingDivergedError:
    """Makes the error that says what is not finite and where training can go on from."""
    steps = store.steps()
    kept = f"The checkpoint of step {steps[-1]} is kept in {store.folder}." if steps else "There is no checkpoint yet."
    return TrainingDivergedError(f"{what}. {kept} Lower optimizer.learning_rate or lengthen schedule.warmup_steps.")
