"""Saves a run while it goes on and when it is told to stop."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_mixer.training.callbacks import Clock, StopOnNaN, diverged
from keras_mixer.training.checkpoints import CheckpointStore, gather
from keras_mixer.training.distribution import Distribution

AGREE_EVERY = 10  # steps between two questions to the other processes of a cluster whether to stop
SLOW_STEP = 1.0  # seconds from which on they ask after each step: who sends SIGTERM often waits 30 s and then kills
STOPPING = b"Stopping after the step that is under way, and saving. A second Ctrl-C stops at once, unsaved.\n"


class Checkpointing(keras.callbacks.Callback):
    """Writes checkpoints: every so many steps or minutes, at the end of `fit`, and when the run is interrupted.

    Interruption (Ctrl-C or SIGTERM) takes effect after the step that is under way; a second Ctrl-C stops at once.
    In a cluster one interrupted process stops all of them at the same step, for a process that left alone would keep
    the others waiting for its gradients. They ask each other every `AGREE_EVERY` steps, after each one where a step
    takes longer than `SLOW_STEP` in any process, and at the end of a period; whether the loss is finite and whether a
    checkpoint is due by the clock as well.
    At the end of a period both wait for `Evaluation`, which must come first: its row of the history belongs in the
    checkpoint.

    Args:
        store: Where checkpoints go.
        every: Updates between two checkpoints.
        minutes: Minutes after which one is written in any case.
        clock: Counts the updates.
        guard: Checks the loss before it is trusted.
        notes: Returns what else to write.
        ends_period: Says whether a step is the last of its period.
        distribution: The processes of the run; the first one writes.
    """

    def __init__(
        self,
        store: CheckpointStore,
        every: int,
        minutes: float,
        clock: Clock,
        guard: StopOnNaN,
        notes: Callable[[], dict],
        ends_period: Callable[[int], bool],
        distribution: Distribution,
    ):
        super().__init__()
        self._store = store
        self._every = every
        self._seconds = 60.0 * minutes
        self._clock = clock
        self._guard = guard
        self._notes = notes
        self._ends_period = ends_period
        self._distribution = distribution
        self._agreed = clock.step
        self._agreed_at = time.monotonic()
        self._interval = 1  # until it is known how long a step takes
        self._saved = clock.step
        self._saved_at = time.monotonic()
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
        # One that came after the last step, such as during the last save, is not lost.
        if kind is None and self._distribution.anywhere(self._signal is not None):
            raise KeyboardInterrupt

    def _on_signal(self, number, frame):
        del frame
        self._signal = number
        with contextlib.suppress(OSError):  # of a process without standard error
            os.write(2, STOPPING)  # not by print, which the signal may have interrupted
        # The second one is not held back.
        signal.signal(number, signal.default_int_handler)

    def on_train_batch_end(self, batch, logs=None):
        if not self._ends_period(self._clock.step):
            self._save_if_due(self._distribution.workers == 1 or self._clock.step - self._agreed >= self._interval)

    def on_epoch_end(self, epoch, logs=None):
        self._save_if_due(agree=True)

    def _save_if_due(self, agree: bool) -> None:
        due = self._clock.step - self._saved >= self._every
        if agree:
            self._guard.check()
            self._set_interval()
            if self._distribution.anywhere(self._signal is not None):
                self.save()
                raise KeyboardInterrupt
            due = due or self._distribution.anywhere(time.monotonic() - self._saved_at >= self._seconds)
        if due:
            self.save()

    def _set_interval(self) -> None:
        """Chooses, in all processes alike, the steps until they ask each other again."""
        now, steps = time.monotonic(), self._clock.step - self._agreed
        if steps:  # else a period ended with a step after which they asked
            slow = self._distribution.anywhere(now - self._agreed_at >= SLOW_STEP * steps)
            self._interval = 1 if slow else AGREE_EVERY
        self._agreed, self._agreed_at = self._clock.step, now

    def save(self) -> None:
        """Writes a checkpoint, unless one of this step is there.

        Raises:
            TrainingDivergedError: If a variable is not finite; nothing is written.
        """
        if self._clock.step == self._saved:
            return
        arrays = gather(self.model)
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise diverged(f"A weight after step {self._clock.step} is not finite", self._store)
        if self._distribution.worker == 0:
            self._store.save(self._clock.step, arrays, self._notes())
        self._saved, self._saved_at = self._clock.step, time.monotonic()
