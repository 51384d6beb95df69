import dataclasses
import json
import pathlib
import re
import shutil

import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix

from keras_mixer.cli.main import main
from keras_mixer.data import DatasetSpec, evaluation_batches, load, load_model
from keras_mixer.data.sources.layout import save_listing, scan
from keras_mixer.export import export


@pytest.fixture(scope="module")
def run(digits):
    return digits / "run"


def status(*arguments) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return exit_.value.code


def test_measures_a_run_on_its_own_split(run, capsys):
    assert status("evaluate", run, "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["examples"] == 360
    assert row["top1"] > 0.6
    assert len(row["per_class"]) == 10
    assert row["confusion_matrix"] == expected_confusion(run).tolist()
    assert 0 < row["calibration_error"] < 1


def expected_confusion(run):
    model, card = load_model(run)
    ((images, labels, _),) = evaluation_batches(load(card.dataset), card.preprocessing, 360)
    return confusion_matrix(labels, model.predict_on_batch(images).argmax(axis=1))


def test_what_is_taken_for_what_is_written_as_counts_or_drawn(run, tmp_path):
    assert status("evaluate", run, "--confusion", tmp_path / "tables" / "confusion.csv") == 0
    header, *rows = (tmp_path / "tables" / "confusion.csv").read_text().splitlines()
    assert header == "true class,0,1,2,3,4,5,6,7,8,9"
    expected = expected_confusion(run)
    assert [row.split(",") for row in rows] == [[str(i), *map(str, counts)] for i, counts in enumerate(expected)]
    assert status("evaluate", run, "--confusion", tmp_path / "confusion.png", "--limit", 60) == 0
    with Image.open(tmp_path / "confusion.png") as picture:
        assert min(picture.size) > 400


def test_shows_every_class(run, capsys):
    assert status("evaluate", run) == 0
    output = capsys.readouterr().out
    assert "ECE %" in output
    assert "digits, split test" in output
    assert output.count("│") > 2 * 10


def test_several_models_are_compared_with_the_first(run, exported, capsys):
    assert status("evaluate", run, exported / "model.tflite", "--limit", 100, "--json") == 0
    reference, other = json.loads(capsys.readouterr().out)
    assert reference["agreement"] is None
    assert other["agreement"] == 1
    assert other["largest_score_difference"] <= 1e-4


def test_a_model_given_twice_is_measured_once(run, capsys):
    assert status("evaluate", run, run, "--limit", 20, "--json") == 0
    assert len(json.loads(capsys.readouterr().out)) == 1


def test_another_split_may_be_given(run, capsys):
    assert status("evaluate", run, "--split", "train[:25]", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["examples"] == 25


def test_images_that_cannot_be_read_may_be_left_out(run, tmp_path, capsys):
    folder = tmp_path / "images" / "test" / "8"
    folder.mkdir(parents=True)
    shutil.copy(pathlib.Path(__file__).parents[1] / "data" / "digits" / "8_sample1.png", folder)
    (folder / "damaged.png").write_bytes(b"no image")
    assert status("evaluate", run, "--dataset", tmp_path / "images", "--corrupt-limit", 1, "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["examples"] == 1


def misfiled(folder, run, label: int) -> int:
    """Writes digits into a folder of one class that none of them is of; returns their number."""
    source = load(load_model(run)[1].dataset)
    others = [e["image"] for e in source.examples().take(40).as_numpy_iterator() if e["label"] != label]
    folder.mkdir(parents=True)
    for number, image in enumerate(others):
        (folder / f"{number}.png").write_bytes(image)
    return len(others)


def test_the_folder_inside_an_unpacked_archive_is_that_of_the_run(run, tmp_path, capsys):
    images = tmp_path / "archive" / "flowers"
    for folder in ("train/3", "train/5", "val/3", "val/5"):
        (images / folder).mkdir(parents=True)
        for number in range(10):
            Image.new("L", (8, 8), 20 * number).save(images / folder / f"{number}.png")
    spec = DatasetSpec(str(tmp_path / "archive"), "train[90%:]")
    layout = scan(spec.name)
    assert layout.root == str(images)
    shutil.copytree(run, tmp_path / "run")
    dataclasses.replace(load_model(run)[1], dataset=spec).save(tmp_path / "run" / "model.json")
    save_listing(layout.listing(), tmp_path / "run")
    (images / "train" / "5" / "0.png").unlink()
    assert status("evaluate", tmp_path / "run", "--dataset", spec.name, "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["examples"] == 2


def test_images_that_came_after_the_run_do_not_move_the_held_out_ones(run, tmp_path, capsys, caplog, monkeypatch):
    """Else the slice of the card would reach images that the run was trained on, however the run is named."""
    for label, name in (("3", "a"), ("5", "b")):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(10):
            Image.new("L", (8, 8), 20 * number).save(tmp_path / "images" / label / f"{name}{number}.png")
    layout = scan(tmp_path / "images")
    shutil.copytree(run, tmp_path / "run")
    card = load_model(run)[1]
    spec = DatasetSpec(str(tmp_path / "images"), "train[90%:]")
    dataclasses.replace(card, dataset=spec).save(tmp_path / "run" / "model.json")
    save_listing(layout.listing(), tmp_path / "run")
    for number in range(20):
        Image.new("L", (8, 8)).save(tmp_path / "images" / "3" / f"new{number}.png")
    (tmp_path / "images" / "5" / "b9.png").unlink()
    monkeypatch.setenv("HOME", str(tmp_path))
    moved = ("--dataset", tmp_path / "moved")
    for name in (tmp_path / "run", tmp_path / "run" / "model.keras", "~/run"):
        assert status("evaluate", name, "--json") == 0
        assert json.loads(capsys.readouterr().out)[0]["examples"] == 1  # of the two that were held out
    assert status("evaluate", tmp_path / "run", "--dataset", tmp_path / "images", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["examples"] == 1
    model, card = load_model(tmp_path / "run")
    assert export(model, card, tmp_path / "exported", ["litert"]).examples == 1
    (tmp_path / "images").rename(tmp_path / "moved")
    assert status("evaluate", tmp_path / "run", *moved, "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["examples"] == 39
    assert "holds 19 of the 20 images of the run" in caplog.text
    Image.new("L", (8, 8), 180).save(tmp_path / "moved" / "5" / "b9.png")
    assert status("evaluate", tmp_path / "run", *moved, "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["examples"] == 2


@pytest.mark.parametrize("layout", ["test/3", "3"])
def test_all_classes_of_the_model_compete(run, tmp_path, capsys, layout):
    count = misfiled(tmp_path / "images" / layout, run, 3)
    assert status("evaluate", run, "--dataset", tmp_path / "images", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["examples"], len(row["per_class"])) == (count, 10)
    assert row["top1"] < 0.3
    assert "among_classes" not in row
    assert status("evaluate", run, "--dataset", tmp_path / "images", "--among-dataset-classes", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["top1"], row["among_classes"]) == (1.0, 1)


def test_the_number_of_classes_that_compete_stands_beside_the_number(run, tmp_path, capsys):
    misfiled(tmp_path / "images" / "3", run, 3)
    assert status("evaluate", run, "--dataset", tmp_path / "images", "--among-dataset-classes") == 0
    shown = capsys.readouterr().out
    assert "among classes" in shown
    assert "split train: 1 of 10 classes" in " ".join(shown.split())


def test_a_class_that_the_model_lacks_is_named(run, tmp_path, capsys):
    misfiled(tmp_path / "images" / "eleven", run, 3)
    assert status("evaluate", run, "--dataset", tmp_path / "images") == 2
    assert "It lacks eleven." in capsys.readouterr().err


def test_draws_a_sheet_of_predictions(run, tmp_path):
    assert status("evaluate", run, "--sheet", tmp_path / "pictures" / "sheet.png", "--limit", 60) == 0
    assert (tmp_path / "pictures" / "sheet.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("option", ["--sheet", "--confusion"])
def test_a_picture_that_fails_at_the_end_loses_no_result(run, tmp_path, capsys, monkeypatch, option):
    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    assert status("evaluate", run, "--limit", 10, "--json", option, tmp_path / "picture.png") == 2
    output = capsys.readouterr()
    assert json.loads(output.out)[0]["examples"] == 10
    assert "No space left" in output.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--split", "nope"), "nope"),
        (("--sheet", f"{__file__}/sheet.png"), "test_evaluate.py is not a folder"),
        (("--batch-size", "0"), "0 is not in the range"),
        (("--sheet", "sheet.docx"), "must end in .png, .pdf or .svg"),
        (("--confusion", "confusion.xlsx"), "must end in .csv, .png or .svg"),
        (("--weights", "imagenet1k"), "--weights is for the name"),
    ],
)
def test_bad_input_is_one_line(run, capsys, arguments, message):
    assert status("evaluate", run, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "There is no model at nowhere: expected a run folder"),
        ("notes.txt", "notes.txt is not a model: expected a run folder"),
        ("empty", "empty holds no SavedModel: .* A run folder would hold model.keras"),
        ("damaged", "damaged/1 cannot be opened as saved_model"),
    ],
)
def test_what_is_no_model_is_bad_usage(name, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("no model")
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged" / "1").mkdir(parents=True)
    (tmp_path / "damaged" / "1" / "saved_model.pb").write_text("no model")
    assert status("evaluate", name) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(f"Error: {message}", line)
