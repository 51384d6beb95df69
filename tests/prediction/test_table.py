"""Predictions in a file of rows, as other readers of CSV and JSON lines find them."""

import pyarrow.csv
import pyarrow.json
import pytest

from keras_mixer.prediction import Prediction, PredictionTable, is_table

MADE_BY = {"model": "one", "top": 2}
ODD = Prediction('/a "b",\nc\r\n.png', (3, 1), ('drei, "3"', "猫"), (0.75, 0.25))
ROWS = [
    ODD,
    Prediction("/b.png", (0,), ("0",), (0.5,)),
    Prediction("/c\rd\u2028\x85.png", error="/c.png is not readable"),
]


def opened(path) -> PredictionTable:
    table = PredictionTable(path)
    table.open(MADE_BY)
    return table


@pytest.mark.parametrize("name", ["rows.tsv", "rows.XLSX", "rows.json", "rows.csv.gz", "rows.zip", "-"])
def test_other_files_are_not_folders_of_that_name(name):
    with pytest.raises(ValueError, match=rf"{name} would be"):
        is_table(name)


def test_other_names_are_folders():
    assert not any(map(is_table, ["rows", "2024.05", "rows.parquet", "s3://bucket/rows.v2"]))


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
    table.forget_errors()
    assert table.done() == {ODD.path, "/b.png"}
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


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("rows.csv", lambda content: b"\xef\xbb\xbf" + content),
        ("rows.csv", lambda content: content + b"\r\n,,,,,\r\n"),
        ("rows.jsonl", lambda content: b"\xef\xbb\xbf" + content + b"\r\n"),
    ],
)
def test_what_editors_add_is_passed_over(tmp_path, name, change):
    table = opened(tmp_path / name)
    table.write(ROWS[1:])
    table.path.write_bytes(change(table.path.read_bytes()))
    again = opened(table.path)
    again.write(ROWS[:1])
    assert again.done() == {row.path for row in ROWS}
    assert again.counts() == (3, 1)
    again.forget_errors()
    assert again.done() == {ODD.path, "/b.png"}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("rows.csv", lambda content: content.replace(b",", b";")),
        ("rows.csv", lambda content: content.replace(b"\n", b"\r")),
        ("rows.csv", lambda content: content.replace(b"/b.png,0,", b"/b.png,")),
        ("rows.csv", lambda content: content.decode().encode("utf-16")),
        ("rows.csv", lambda content: b"\n".join(content.split(b"\n")[1:])),
        ("rows.jsonl", lambda content: content.replace(b'"path"', b'"file"')),
        ("rows.jsonl", lambda content: content.replace(b"{", b"")),
    ],
)
def test_a_file_that_another_program_changed_is_left_as_it_is(tmp_path, name, change):
    table = opened(tmp_path / name)
    table.write(ROWS[1:])
    content = change(table.path.read_bytes())
    table.path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} was changed by another program .*: restore it, pass --restart"):
        opened(table.path)
    assert table.path.read_bytes() == content


@pytest.mark.parametrize("text", ["{", "[1]", "3"])
def test_a_damaged_manifest_is_named(tmp_path, text):
    table = opened(tmp_path / "rows.csv")
    (tmp_path / "rows.csv.manifest.json").write_text(text)
    with pytest.raises(ValueError, match=r"rows\.csv\.manifest\.json is damaged .* pass --restart"):
        opened(table.path)
    table.open(MADE_BY, restart=True)
    assert opened(table.path).done() == set()
