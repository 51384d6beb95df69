"""The progress of long work on standard error: a bar, or a line per minute if there is no terminal."""

import time

BAR_EVERY, LINE_EVERY = 0.2, 60.0  # seconds between two notes beside the bar, and between two lines


class Progress:
    """A progress bar for a known number of steps; a context manager.

    Args:
        title: Name of the work, such as "Training".
        total: Number of steps.
        unit: Word before the count in a line, such as "step".
        completed: Steps done before.
    """

    def __init__(self, title: str, total: int, unit: str, completed: int = 0):
        from rich import progress
        from rich.console import Console

        self._console = Console(stderr=True)
        self._bar = progress.Progress(
            progress.TextColumn(title),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[note]}"),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=total, completed=completed, note="")
        self._total, self._unit = total, unit
        self._last_note = time.monotonic()

    def __enter__(self):
        self._bar.start()
        return self

    def __exit__(self, *_):
        self._bar.stop()

    def update(self, completed: int, note, now: bool = False) -> None:
        """Moves the bar to `completed` steps, and shows the text that `note` returns if it is due or `now` is true."""
        if not now and time.monotonic() - self._last_note < (LINE_EVERY if self._bar.disable else BAR_EVERY):
            self._bar.update(self._task, completed=completed)
            return
        self._last_note = time.monotonic()
        text = note()
        self._bar.update(self._task, completed=completed, note=text)
        if self._bar.disable:
            self._console.print(f"{self._unit} {completed:,}/{self._total:,}  {text}", highlight=False)
