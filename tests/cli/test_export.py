import dataclasses
import json
import pathlib
import shutil

import pytest
import yaml
from command_line import error_line

from keras_mixer.cli.main import main
from keras_mixer.export import FORMATS

pytestmark = pytest.mark.usefixtures("litert_once")
DIGITS = pathlib.Path(__file__).parents[1] / "data" / "digits"


@pytest.fixture(scope="module")
def run(digits):
    return digits / "run"


def status(*arguments) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return exit_.value.code


def test_writes_and_measures_the_formats_that_follow(run, tmp_path, capsys):
    assert status("export", run, "--formats", "saved_model", "litert", "--output", tmp_path, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["artefact"] for row in rows] == ["keras", "saved_model", "litert"]
    assert rows[0]["top1"] > 0.6
    assert rows[1]["largest_score_difference"] <= 1e-5
    assert rows[2]["largest_score_difference"] <= 1e-4
    assert (tmp_path / "digits/1/saved_model.pb").is_file()
    assert (tmp_path / "digits/model.tflite").is_file()
    assert json.loads((tmp_path / "digits/report.json").read_text())["rows"] == rows


def test_formats_may_come_before_the_run(run, tmp_path, capsys):
    assert status("export", "--formats", "litert", "litert_float16", run, "--output", tmp_path, "--limit", 20) == 0
    assert "litert" in capsys.readouterr().out
    assert (tmp_path / "digits/model_float16.tflite").is_file()


def test_serving_writes_the_bundle_under_the_given_name(run, tmp_path):
    arguments = ("--formats", "saved_model", "--output", tmp_path, "--name", "Seven_7", "--serving", "--limit", 20)
    assert status("export", run, *arguments) == 0
    bundle = tmp_path / "Seven_7-serving"
    assert (bundle / "models/Seven_7/1/saved_model.pb").is_file()
    deployment = yaml.safe_load((bundle / "kubernetes/deployment.yaml").read_text())
    assert deployment["metadata"]["name"] == "seven-7-serving"


def test_images_that_cannot_be_read_are_left_out_of_measuring_and_calibrating(run, tmp_path, capsys):
    for label in range(10):
        (tmp_path / "images" / "test" / str(label)).mkdir(parents=True)
        shutil.copy(DIGITS / "8_sample1.png", tmp_path / "images" / "test" / str(label))
    (tmp_path / "images" / "test" / "8" / "damaged.png").write_bytes(b"no image")
    arguments = ("--formats", "litert_int8", "--output", tmp_path, "--dataset", tmp_path / "images")
    assert status("export", run, *arguments) == 2
    error = capsys.readouterr().err
    assert "1 image could not be read, and 0 may be" in error
    assert "damaged.png" in error
    status("export", run, *arguments, "--corrupt-limit", 1)
    assert json.loads((tmp_path / "digits/report.json").read_text())["examples"] == 10


def test_a_breach_names_the_artefact_keeps_it_and_is_a_fault(run, tmp_path, capsys, monkeypatch):
    # No format loses this little: the limit is what is under test.
    monkeypatch.setitem(FORMATS, "litert", dataclasses.replace(FORMATS["litert"], limit=-0.5))
    assert status("export", run, "--formats", "litert", "--output", tmp_path, "--limit", 50) == 1
    assert "model.tflite (litert) loses 0.00 points of accuracy; its limit is -0.5." in capsys.readouterr().err
    assert (tmp_path / "digits/model.tflite").is_file()


def test_a_withheld_saved_model_enters_no_bundle(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(FORMATS, "saved_model", dataclasses.replace(FORMATS["saved_model"], limit=-0.5))
    arguments = ("--formats", "saved_model", "--output", tmp_path, "--serving", "--limit", 20)
    assert status("export", run, *arguments) == 1
    assert "withheld (saved_model) loses 0.00 points" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]
    assert (tmp_path / "digits/withheld/saved_model.pb").is_file()


def test_a_model_without_a_dataset_is_exported_without_an_accuracy(run, tmp_path, capsys):
    published = tmp_path / "published"
    shutil.copytree(run, published)
    card = json.loads((run / "model.json").read_text())
    (published / "model.json").write_text(json.dumps(card | {"dataset": None}))
    assert status("export", published, "--formats", "litert", "--output", tmp_path, "--limit", 20) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "compared on 20 random images; accuracy was not measured" in out
    assert (tmp_path / "digits/model.tflite").is_file()
    assert status("export", published, "--formats", "litert_int8", "--output", tmp_path) == 2
    assert "int8 needs images to calibrate on" in capsys.readouterr().err


def test_another_model_of_the_same_recipe_needs_a_name_of_its_own(run, tmp_path, capsys):
    other = json.loads((run / "model.json").read_text()) | {"class_names": [f"class {label}" for label in range(10)]}
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "model.json").write_text(json.dumps(other))
    (tmp_path / "digits" / "report.json").touch()
    arguments = ("export", run, "--formats", "litert", "--output", tmp_path, "--limit", 20)
    assert status(*arguments) == 2
    assert "already has a model of that name, with other classes" in error_line(capsys.readouterr().err)
    assert json.loads((tmp_path / "digits" / "model.json").read_text()) == other
    assert status(*arguments, "--name", "digits") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--formats", "tensorrt"), "'tensorrt' is not one of 'saved_model', 'litert'"),
        (("--formats", "saved_model", "litert16"), "'litert16' is not one of 'saved_model', 'litert'"),
        (("--formats", "litert16", "litert"), "'litert16' is not one of 'saved_model', 'litert'"),
        (("--formats", "litert", "--serving"), "add saved_model to --formats"),
        (("--name", "../up"), "A model's name is"),
        (("--split", "nope"), "nope"),
        (("--dataset", "/nowhere"), "There is no folder /nowhere."),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(run, tmp_path, capsys, arguments, message):
    assert status("export", run, "--output", tmp_path / "out", *arguments) == 2
    assert message in error_line(capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_what_is_no_run_is_one_line(tmp_path, capsys):
    assert status("export", tmp_path) == 2
    assert "model.keras does not exist" in error_line(capsys.readouterr().err)
