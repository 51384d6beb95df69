"""How every sub-command shows a result: a table for people, or JSON with `--json`."""

import json
from collections.abc import Sequence

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def show(rows: Sequence[dict], *, title: str | None = None, as_json: bool = False) -> None:
    """Prints rows of equal keys as a table, or as a JSON list with the values untouched."""
    if as_json:
        click.echo(json.dumps(list(rows), indent=2, default=str))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Names of files and classes may hold what Rich would take for markup or an emoji.
    table = Table(title=None if title is None else Text(title, "table.title"), title_justify="left")
    for column in rows[0] if rows else ():
        numeric = all(isinstance(row[column], (int, float)) or row[column] is None for row in rows)
        table.add_column(Text(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    Console().print(table)


def _cell(value) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
