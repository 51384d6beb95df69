import collections
import csv
import json
import sys

import digit_models
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from keras_mixer.cli.main import main


@pytest.fixture(scope="module")
def run(digits):
    return digits / "run"


@pytest.fixture
def images(tmp_path):
    random = np.random.default_rng(0)
    for name in ("a.png", "b.jpg"):
        Image.fromarray(random.integers(0, 256, (20, 20, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "bad.png").write_bytes(b"not an image")
    return tmp_path


def status(*arguments) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return exit_.value.code


def test_lists_the_best_classes_of_each_image(run, images, capsys):
    assert status("predict", "--model", run, "--top", 3, "--json", images / "a.png", images / "b.jpg") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["image"], row["rank"]) for row in rows] == [
        (str(images / name), rank) for name in ("a.png", "b.jpg") for rank in (1, 2, 3)
    ]
    for first in (0, 3):
        scores = [row["score"] for row in rows[first : first + 3]]
        assert scores == sorted(scores, reverse=True)
    assert {row["class"] for row in rows} <= set("0123456789")


def test_bad_files_are_one_line_each_and_the_good_ones_are_predicted(run, images, capsys):
    empty, folder = images / "empty", images / "folder"
    empty.mkdir()
    folder.mkdir()
    for name in ("good.png", "caf\udce9.png"):
        (folder / name).write_bytes((images / "a.png").read_bytes())
    named = [images / name for name in ("bad.png", "a.png", "missing.png")]
    assert status("predict", "--model", run, *named, empty, folder) == 2
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 4
    assert "bad.png cannot be read: it is not an image" in errors[0]
    assert "missing.png" in errors[1]
    assert f"The name of {folder}/caf\\xe9.png is not UTF-8" in errors[3]
    for name in ("a.png", "good.png"):
        assert name in captured.out.replace("\n", "")
    assert "Traceback" not in captured.err


def test_what_was_predicted_before_an_error_that_ends_the_run_is_shown(run, images, tmp_path, capsys):
    table = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"image": [b"x" * 1000] * 50}), table, compression="none", use_dictionary=False)
    content = table.read_bytes()
    table.write_bytes(content[:20] + b"\xff" * 60 + content[80:])  # what lists its rows, at the end, is whole
    command = ["--model", run, "--top", 1, "--batch-size", 1, images / "a.png", images / "b.jpg", table, "--json"]
    assert status("predict", *command) == 2
    captured = capsys.readouterr()
    assert "rows.parquet cannot be read as a parquet file" in captured.err
    shown = [row["image"] for row in json.loads(captured.out)]
    assert shown == [str(images / name) for name in ("a.png", "b.jpg")][: len(shown)]
    assert shown


def test_the_model_must_be_named(images, capsys):
    assert status("predict", images / "a.png") == 2
    assert "--model" in capsys.readouterr().err


def predictions(capsys, *arguments) -> dict:
    """The summary of a run with --output that succeeds."""
    assert status("predict", *arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)[0]


def test_rows_on_disk_are_those_of_the_table_and_nothing_is_done_twice(run, images, tmp_path, capsys):
    command = ["--model", run, images, "--output", images / "found", "--part-size", 2]  # within the images' folder
    result = predictions(capsys, *command)
    assert (result["images"], result["predicted now"], result["of them unreadable"]) == (3, 3, 1)
    rows = {row["path"]: row for row in pq.read_table(images / "found").to_pylist()}
    assert "bad.png cannot be read: it is not an image" in rows.pop(str(images / "bad.png"))["error"]
    assert status("predict", "--model", run, *rows, "--json") == 0
    for shown in json.loads(capsys.readouterr().out):
        row = rows[shown["image"]]
        assert row["labels"][shown["rank"] - 1] == shown["class"] == str(row["classes"][shown["rank"] - 1])
        assert row["scores"][shown["rank"] - 1] == pytest.approx(shown["score"], rel=1e-5)

    assert predictions(capsys, *command)["predicted now"] == 0
    (images / "bad.png").unlink()
    Image.new("L", (9, 9)).save(images / "bad.png")
    Image.new("L", (9, 9)).save(images / "new.png")
    assert predictions(capsys, *command)["predicted now"] == 1
    result = predictions(capsys, *command, "--retry-errors")
    assert (result["predicted now"], result["rows in the output"], result["of them unreadable"]) == (1, 4, 0)


def test_the_predictions_of_another_model_are_not_mixed_in(run, images, tmp_path, capsys):
    other = digit_models.write_run(tmp_path / "other", digit_models.untrained(classifier_activation=None))
    command = [images / "a.png", "--output", tmp_path / "found"]
    predictions(capsys, "--model", run, *command)
    for changed in (["--model", other], ["--model", run, "--top", 3]):
        assert status("predict", *changed, *command) == 2
        assert "--restart" in capsys.readouterr().err
    assert predictions(capsys, "--model", other, *command, "--restart")["predicted now"] == 1


def test_folders_and_parquet_files_are_classified_like_files(run, images, tmp_path, capsys):
    files = ["a.png", "b.jpg"]
    (images / "bad.png").unlink()
    table = tmp_path / ".tables" / "images.parquet"  # hidden from a search
    table.parent.mkdir()
    pq.write_table(pa.table({"id": files, "image": [(images / name).read_bytes() for name in files]}), table)
    shown = []
    for arguments in ([images / name for name in files], [images], [images / "*.*g"], [table]):
        assert status("predict", "--model", run, "--json", *arguments) == 0
        shown.append([(row["class"], round(row["score"], 5)) for row in json.loads(capsys.readouterr().out)])
    assert len(shown[0]) == 10
    assert shown.count(shown[0]) == 4


def rows_of(path) -> list[dict]:
    if path.suffix == ".csv":
        with open(path, newline="") as file:
            return [
                {"path": row["path"], "best": row["label_1"], "error": row["error"]} for row in csv.DictReader(file)
            ]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{"path": row["path"], "best": "".join(row["labels"][:1]), "error": row["error"] or ""} for row in rows]


@pytest.mark.parametrize("name", ["found.csv", "found.jsonl"])
def test_an_output_named_as_a_file_is_one(run, images, capsys, name):
    """In the folder of the images: neither the file nor its manifest is left out with a warning."""
    output = images / name
    command = ["--model", run, images, "--output", output, "--part-size", 1]
    result = predictions(capsys, *command)
    assert (result["images"], result["predicted now"], result["of them unreadable"]) == (3, 3, 1)
    rows = rows_of(output)
    assert [row["path"] for row in rows] == [str(images / file) for file in ("a.png", "b.jpg", "bad.png")]
    assert result["classes"] == dict(collections.Counter(row["best"] for row in rows if row["best"]).most_common())
    assert "bad.png" in rows[2]["error"]
    complete = output.read_bytes()
    output.write_bytes(complete[:-9])  # as a killed process leaves it
    assert status("predict", *command) == 0
    captured = capsys.readouterr()
    assert "Left out" not in captured.err
    assert "best class" in captured.out
    assert output.read_bytes() == complete
    Image.new("L", (9, 9)).save(images / "bad.png")
    assert predictions(capsys, *command, "--retry-errors")["of them unreadable"] == 0
    assert status("predict", *command, "--top", 2) == 2
    assert "top 5 then, 2 now" in capsys.readouterr().err
    assert predictions(capsys, *command, "--top", 2, "--restart")["predicted now"] == 3


@pytest.mark.parametrize(
    ("output", "options", "message"),
    [
        ("mine.csv", [], "is a file that this command did not write"),
        ("mine.json", [], "end it in .csv or .jsonl"),
        ("new.csv", ["--engine", "ray"], "--run-on ray writes a folder of parquet files"),
        ("memory://bucket/new.csv", [], "is not on this machine"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused(run, images, capsys, output, options, message):
    (images / "mine.csv").write_text("a,b\n")
    target = output if "://" in output else images / output
    assert status("predict", "--model", run, images / "a.png", "--output", target, *options) == 2
    assert message in capsys.readouterr().err
    assert (images / "mine.csv").read_text() == "a,b\n"


def test_a_summary_follows_the_table(run, images, capsys):
    assert status("predict", "--model", run, "--top", 1, images / "a.png", images / "b.jpg") == 0
    assert "best class" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "ray"], "need --output"),
        (["--engine", "local", "--run-on", "ray"], "the old form of --run-on local"),
        (["--engine", "spark"], "'spark' is not one of auto, tensorflow, jax, torch, openvino, litert, onnxruntime\n"),
        (["--restart"], "need --output"),
        (["--output", "FOLDER"], "choose a new or empty folder"),
        (["--output", "FOLDER", "--restart"], "choose a new or empty folder"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_work(run, images, capsys, options, message):
    folder = images / "mine"
    folder.mkdir()
    (folder / "part-0.parquet").write_text("no predictions")
    options = [folder if option == "FOLDER" else option for option in options]
    before = sorted(images.rglob("*"))
    assert status("predict", "--model", run, images / "a.png", *options) == 2
    assert message in capsys.readouterr().err
    assert sorted(images.rglob("*")) == before


def test_columns_are_part_of_what_made_the_predictions(run, tmp_path, capsys):
    Image.new("L", (9, 9)).save(tmp_path / "a.png")
    content = [(tmp_path / "a.png").read_bytes()]
    pq.write_table(pa.table({"id": ["one"], "small": content, "large": content}), tmp_path / "images.parquet")
    command = ["--model", run, tmp_path / "images.parquet", "--output", tmp_path / "found"]
    predictions(capsys, *command, "--image-column", "small")
    assert status("predict", *command, "--image-column", "large") == 2
    assert "image_column 'small' then, 'large' now" in capsys.readouterr().err
    assert status("predict", *command, "--image-column", "small", "--id-column", "none") == 2
    assert "id_column None then, 'none' now" in capsys.readouterr().err


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_further_table_with_the_names_of_the_first_is_refused(run, tmp_path, capsys, monkeypatch, engine):
    content = {}
    for name, colour in (("january", 0), ("february", 255), ("march", 90)):
        Image.new("L", (9, 9), colour).save(tmp_path / "image.png")
        content[name] = [(tmp_path / "image.png").read_bytes(), b"no image"]
    for name, ids in (("january", [0, 1]), ("february", [1, 2]), ("march", [3, 4])):
        pq.write_table(pa.table({"id": ids, "image": content[name]}), tmp_path / f"{name}.parquet")
    command = ["--model", run, "--output", tmp_path / "found"]
    assert predictions(capsys, *command, tmp_path / "january.parquet")["predicted now"] == 2
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "ray", None)  # it is refused before any work
        again = [tmp_path / "february.parquet", "--engine", engine, "--retry-errors"]
        assert status("predict", *command, *again) == 2
    error = capsys.readouterr().err
    assert "february.parquet is new in" in error
    assert "1 of its images have names that are done, such as '1'" in error
    assert "could not be told apart" in error
    for _ in range(2):  # new names join, and both tables may be named again
        both = predictions(capsys, *command, tmp_path / "march.parquet", tmp_path / "january.parquet")
        assert both["rows in the output"] == 4
    assert both["predicted now"] == 0


def test_success_means_one_row_for_each_image(run, images, tmp_path, capsys):
    command = ["--model", run, images / "a.png", images / "b.jpg", "--output", tmp_path / "found"]
    predictions(capsys, *command)
    (part,) = (tmp_path / "found").glob("part-*")
    part.with_name("part-0.parquet").write_bytes(part.read_bytes())
    assert status("predict", *command) == 1
    error = capsys.readouterr().err
    assert "2 images have more than one row" in error
    assert "--restart" in error
    assert predictions(capsys, *command, "--restart")["rows in the output"] == 2


@pytest.mark.parametrize("form", ["run", "keras", "saved_model"])
def test_for_ray_the_model_stays_closed_and_its_card_is_read(run, images, tmp_path, capsys, monkeypatch, form):
    monkeypatch.setitem(sys.modules, "ray", None)  # the first thing to fail after the model was looked at
    folder = tmp_path / "model"
    names = ("saved_model.pb", "assets/model.json") if form == "saved_model" else ("model.keras", "model.json")
    model, card = (folder / name for name in names)
    card.parent.mkdir(parents=True)
    model.write_bytes(b"to be opened by the workers alone")
    command = ["--model", model if form == "keras" else folder, images, "--output", tmp_path / "found"]
    command += ["--engine", "ray"]
    assert status("predict", *command) == 2
    assert f"has no card: expected {card}" in capsys.readouterr().err
    card.write_text("{}")
    assert status("predict", *command) == 2
    assert "is not a model card" in capsys.readouterr().err
    card.write_bytes((run / "model.json").read_bytes())
    assert status("predict", *command) == 2
    assert 'pip install "keras_mixer[ray]"' in capsys.readouterr().err


def test_without_ray_its_installation_is_named(run, images, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    command = ["--model", run, images, "--output", tmp_path / "found", "--engine", "ray"]
    assert status("predict", *command) == 2
    assert 'pip install "keras_mixer[ray]"' in capsys.readouterr().err
