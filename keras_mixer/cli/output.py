"""What every sub-command prints: a table for people, or JSON with `--json`; and a quiet start of the frameworks."""

import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence

import click

from keras_mixer.extras import installed, require
from keras_mixer.files import strict_json

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def show(rows: Sequence[dict], *, title: str | None = None, as_json: bool = False) -> None:
    """Prints rows as a table, or as a JSON list with unformatted values, where null stands for NaN and infinity.

    The table has a column for each key of any row. Cells are never wrapped or truncated, so that names can be copied.
    A table may be wider than the terminal.
    """
    if as_json:
        click.echo(strict_json(list(rows)))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # `Text`, because Rich could take parts of file and class names for markup or an emoji.
    table = Table()
    columns = dict.fromkeys(key for row in rows for key in row)
    for column in columns:
        numeric = all(isinstance(row.get(column), int | float | None) for row in rows)
        table.add_column(Text(column), justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(_cell(row.get(column))) for column in columns))
    console = Console()
    needed = console.measure(table, options=console.options.update(max_width=10_000)).maximum
    console.width = max(console.width, needed)
    if title is not None:  # before the table, which would break it at its own width
        console.print(Text(title, "italic"))
    console.print(table)


def keep_for_json() -> None:
    """Keeps standard output for `show`: what libraries print there from outside Python goes to standard error.

    Gloo, through which JAX's processes speak on CPUs, tells of its connections there.
    """
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):  # replaced by a stream in memory
        return
    if number == 1:
        sys.stdout.flush()
        kept = os.dup(number)
        os.dup2(sys.stderr.fileno(), number)
        sys.stdout = open(kept, "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)  # noqa: SIM115


def _cell(value) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def start(*frameworks: str) -> None:
    """Imports frameworks without the notices that they print, or raises ImportError if one is not installed."""
    require(*frameworks, extra="tensorflow", purpose="This command")
    with _silent_standard_error():
        for name in frameworks:
            importlib.import_module(name)


def start_keras() -> None:
    """Imports Keras, after TensorFlow if that is installed; raises ImportError if Keras has no backend."""
    try:
        start(*(["tensorflow"] if installed("tensorflow") else []), "keras")
    except ModuleNotFoundError as error:
        raise ImportError(
            f'Keras has no backend, because {error.name} is not installed: pip install "keras_mixer[tensorflow]", or '
            f'pip install "keras_mixer[jax]" and set KERAS_BACKEND=jax.'
        ) from error


@contextlib.contextmanager
def notes_shown(line: str = "%(message)s") -> Iterator[None]:
    """Shows the package's informational log messages on standard error, not only its warnings."""
    log, handler = logging.getLogger("keras_mixer"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter(line))
    level, propagate = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False  # TensorFlow's packages give the root logger a handler, which would print each line again
    try:
        yield
    finally:
        log.propagate = propagate
        log.setLevel(level)
        log.removeHandler(handler)


@contextlib.contextmanager
def _silent_standard_error() -> Iterator[None]:
    """Discards all output to the file descriptor of standard error, because C++ libraries write to it directly."""
    sys.stderr.flush()
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
