"""The progress bar of a run, and a line per minute where there is no terminal."""

import time

import keras

from keras_mixer.training.callbacks import Clock

BAR_EVERY, LINE_EVERY = 0.2, 60.0  # seconds between two notes: beside the bar, as a line where there is none


class ProgressBar(keras.callbacks.Callback):
    """Shows step, loss, accuracy, images per second and the time left, on standard error."""

    def __init__(self, clock: Clock, total_steps: int, batch_size: int):
        super().__init__()
        from rich import progress
        from rich.console import Console

        self._clock = clock
        self._batch_size = batch_size
        self._console = Console(stderr=True)
        self._bar = progress.Progress(
            progress.TextColumn("Training"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[note]}"),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=total_steps, completed=clock.step, note="")
        self._total = total_steps
        self._started = (time.monotonic(), clock.step)
        self._last_shown = time.monotonic()
        self._validation = ""

    def __enter__(self):
        self._bar.start()
        return self

    def __exit__(self, *_):
        self._bar.stop()

    def on_train_batch_end(self, batch, logs=None):
        if time.monotonic() - self._last_shown < (LINE_EVERY if self._bar.disable else BAR_EVERY):
            self._bar.update(self._task, completed=self._clock.step)
        else:
            self._show(logs)

    def on_epoch_end(self, epoch, logs=None):
        self._validation = f"  evaluated {logs['val_accuracy']:.2%}"
        if self._clock.step >= self._total or time.monotonic() - self._last_shown >= LINE_EVERY:
            self._show(logs)

    def _show(self, logs) -> None:
        self._last_shown = time.monotonic()
        note = self._note(logs)
        self._bar.update(self._task, completed=self._clock.step, note=note)
        if self._bar.disable:
            self._console.print(f"step {self._clock.step}/{self._total}  {note}", highlight=False)

    def _note(self, logs) -> str:
        seconds, first = time.monotonic() - self._started[0], self._started[1]
        rate = (self._clock.step - first) * self._batch_size / max(seconds, 1e-9)
        loss, accuracy = float(logs["loss"]), float(logs["accuracy"])
        return f"loss {loss:.4f}  accuracy {accuracy:.2%}{self._validation}  {rate:,.0f} images/s"
