import json
import pathlib

import numpy as np
import pytest

from keras_mixer.cli.output import show

NAMES = ["cat[old].png", "[/x]", ":smile:", "[bold]red[/bold]", "\\[x]"]


@pytest.mark.parametrize("name", NAMES)
def test_a_table_shows_names_as_they_are(name, capsys):
    show([{name: name, "score": 0.5}], title=f"In {name}")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == f"In {name}"
    assert sum(f" {name} " in line for line in lines[1:]) == 2  # the column's heading and the cell


def test_numbers_are_to_the_right_and_nothing_is_a_dash(capsys):
    show([{"name": "a", "count": 1234567, "share": 1 / 3}, {"name": "b", "count": None, "share": None}])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["│", "a", "│", "1,234,567", "│", "0.3333", "│"] in rows
    assert ["│", "b", "│", "-", "│", "-", "│"] in rows


def test_a_table_has_the_columns_of_all_rows(capsys):
    show([{"name": "a"}, {"name": "b", "note": "late"}])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["┃", "name", "┃", "note", "┃"] in rows
    assert ["│", "a", "│", "-", "│"] in rows
    assert ["│", "b", "│", "late", "│"] in rows


def test_json_leaves_values_untouched(capsys):
    rows = [{"name": name, "score": 1 / 3} for name in NAMES]
    show(rows, as_json=True)
    assert json.loads(capsys.readouterr().out) == rows


def refuse(constant):
    raise AssertionError(f"{constant} is not JSON")


def test_json_has_null_in_place_of_nan_and_infinity(capsys):
    row = {"loss": float("nan"), "curve": (np.float64("inf"), 0.1), "by": {"a": -np.inf}, "map": np.array([np.nan, 1])}
    show([row, {"name": "NaN", "path": pathlib.Path("a")}], as_json=True)
    shown = json.loads(capsys.readouterr().out, parse_constant=refuse)
    expected = {"loss": None, "curve": [None, 0.1], "by": {"a": None}, "map": [None, 1.0]}
    assert shown == [expected, {"name": "NaN", "path": "a"}]


def test_a_long_name_stays_on_one_line_of_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    name = "a name of words_and_underscores that is longer than the terminal is wide"
    show([{"name": name, "path": "/some/folder/" * 10, "count": 1}])
    assert any(f" {name} " in line and "/some/folder/" * 10 in line for line in capsys.readouterr().out.splitlines())
