"""Predictions in a file of rows, as other readers of CSV and JSON lines find them."""

import pyarrow.csv
import pyarrow.json
import pytest

from keras_mixer.prediction import Prediction, PredictionTable, is_table

MADE_BY = {"model": "one", "top": 2}
ODD = Prediction('/a "b",\nc.png', (3, 1), ('drei, "3"', "猫"), (0.75, 0.25))
ROWS = [ODD, Prediction("/b.png", (0,), ("0",), (0.5,)), Prediction("/c.png", error="/c.png is not readable")]


def opened(path) -> PredictionTable:
    table = PredictionTable(path)
    table.open(MADE_BY)
    return table


@pytest.mark.parametrize("name", ["rows.tsv", "rows.XLSX", "rows.json"])
def test_other_tables_are_not_folders_of_that_name(name):
    with pytest.raises(ValueError, match=rf"{name} would be"):
        is_table(name)


@pytest.mark.parametrize("name", ["new/rows.csv", "new/rows.jsonl"])
def test_other_readers_find_the_rows(tmp_path, name):
    table = opened(tmp_path / name)
    table.write(ROWS[:1])
    table.write(ROWS[1:])
    if name.endswith("csv"):
        options = pyarrow.csv.ParseOptions(newlines_in_values=True)
        rows = pyarrow.csv.read_csv(tmp_path / name, parse_options=options).to_pylist()
        best = [row["label_1"] for row in rows]
    else:
        rows = pyarrow.json.read_json(tmp_path / name).to_pylist()
        best = ["".join(row["labels"][:1]) for row in rows]
    assert [row["path"] for row in rows] == [row.path for row in ROWS]
    assert best == ['drei, "3"', "0", ""]
    assert rows[2]["error"] == "/c.png is not readable"
    assert table.counts() == (3, 1)
    assert table.best() == {'drei, "3"': 1, "0": 1}
    assert table.done(retry_errors=True) == {ODD.path, "/b.png"}
    assert table.repeated() == []


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_a_row_cut_anywhere_is_written_again(tmp_path, name):
    table = opened(tmp_path / name)
    table.write(ROWS[1:2])
    begin = table.path.stat().st_size
    table.write(ROWS[:1])
    complete = table.path.read_bytes()
    for end in range(begin, len(complete)):
        table.path.write_bytes(complete[:end])
        again = opened(table.path)
        assert again.done() == {"/b.png"}, end
        again.write(ROWS[:1])
        assert table.path.read_bytes() == complete
