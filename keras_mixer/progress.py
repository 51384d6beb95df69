"""Shows the progress of long work on standard error: a bar, or one line per minute without a terminal."""

import time

BAR_EVERY, LINE_EVERY = 0.2, 60.0  # seconds between updates of the text beside the bar, and between lines


class Progress:
    """A progress bar for a known number of steps; a context manager.

    Args:
        title: Name of the work, such as "Training".
        total: Number of steps; 0 if it is unknown.
        unit: Word before the count in a line, such as "step".
        completed: Steps that were done before.
        in_bytes: Whether the steps are bytes. The bar then shows megabytes and the transfer rate.
    """

    def __init__(self, title: str, total: int, unit: str, completed: int = 0, in_bytes: bool = False):
        from rich import progress
        from rich.console import Console

        self._console = Console(stderr=True)
        self._bar = progress.Progress(
            progress.TextColumn(title),
            progress.BarColumn(),
            progress.DownloadColumn() if in_bytes else progress.MofNCompleteColumn(),
            *([progress.TransferSpeedColumn()] if in_bytes else []),
            progress.TextColumn("{task.fields[note]}"),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=total or None, completed=completed, note="")
        self._total, self._unit = total, unit
        self._last_note = time.monotonic()

    def __enter__(self):
        self._bar.start()
        return self

    def __exit__(self, *_):
        self._bar.stop()

    def update(self, completed: int, note, now: bool = False) -> None:
        """Moves the bar to `completed` steps. If an update is due or `now` is true, shows the text from `note`."""
        if not now and time.monotonic() - self._last_note < (LINE_EVERY if self._bar.disable else BAR_EVERY):
            self._bar.update(self._task, completed=completed)
            return
        self._last_note = time.monotonic()
        text = note()
        self._bar.update(self._task, completed=completed, note=text)
        if self._bar.disable:
            count = f"{completed:,}/{self._total:,}" if self._total else f"{completed:,}"
            self._console.print(f"{self._unit} {count}  {text}".rstrip(), highlight=False)
