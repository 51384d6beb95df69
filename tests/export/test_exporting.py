import dataclasses
import json
import pathlib
import platform
import re
import shutil
import sys

import keras
import numpy as np
import onnxruntime
import pytest

from keras_mixer.data import DatasetSpec, ModelCard
from keras_mixer.evaluation import Predictor
from keras_mixer.evaluation.samples import RandomImages
from keras_mixer.export import FORMATS, export
from keras_mixer.export import exporting as module
from keras_mixer.export.report import Report, Row, _machine

pytestmark = pytest.mark.usefixtures("litert_once")
FEW = ("saved_model", "litert", "onnx")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tmp_path_factory.mktemp("saved_models") / "digits"


@pytest.fixture(scope="module")
def report(model, card, base):
    return export(model, card, base, FEW)


def test_artefacts_lie_where_the_report_says(report, base):
    assert [row.artefact for row in report.rows] == ["keras", *FEW]
    assert [row.file for row in report.rows] == [None, "1", "model.tflite", "model.onnx"]
    assert sorted(path.name for path in base.iterdir()) == [
        *("1", "model.json", "model.onnx", "model.tflite", "report.json")
    ]
    assert report.rows[2].bytes == (base / "model.tflite").stat().st_size


def test_float_formats_agree_with_the_model_on_the_cards_split(report):
    keras_row = report.rows[0]
    assert (report.dataset, report.split, report.examples) == ("digits", "test", 360)
    for row in report.rows[1:]:
        assert (row.top1, row.top5, row.agreement, row.drop, row.limit) == (keras_row.top1, keras_row.top5, 1, 0, 0.1)
        assert row.largest_score_difference < 1e-5
        assert row.largest_logit_difference < 1e-4
        assert row.milliseconds > 0
    assert report.breaches == []


def test_the_report_names_the_processor_and_the_runtimes():
    information = pathlib.Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", information.read_text()) if information.is_file() else []
    machine = _machine()
    assert machine["processor"].startswith(tuple(models) or platform.processor())
    assert (machine["keras"], machine["onnxruntime"]) == (keras.__version__, onnxruntime.__version__)


def test_report_json_holds_the_same(report, base):
    written = json.loads((base / "report.json").read_text())
    assert written == json.loads(json.dumps(dataclasses.asdict(report)))
    assert written["machine"] == _machine()
    assert [row["min_runtime"] for row in written["rows"]] == [None, None, "2.9.0", None]


def test_openvino_is_measured_in_float32_and_as_it_runs_by_default(model, card, tmp_path):
    """By default it computes in bfloat16 on a processor that can, which a user should know."""
    report = export(model, card, tmp_path / "digits", ["openvino"], limit=40)
    _, exact, default = report.rows
    assert (exact.artefact, exact.note, exact.limit) == ("openvino", None, 0.1)
    assert (default.artefact, default.note, default.limit) == ("openvino", "default precision", None)
    assert exact.file == default.file == "model.xml"
    assert exact.largest_score_difference < 1e-5
    assert default.largest_score_difference < 0.05
    assert sorted(path.name for path in (tmp_path / "digits").iterdir()) == [
        *("model.bin", "model.json", "model.xml", "report.json")
    ]


def test_an_artefact_that_loses_too_much_is_named_and_kept(model, card, tmp_path, monkeypatch):
    litert = FORMATS["litert"]

    def damaged(path, threads):
        scores = litert.open(path, threads)
        return lambda images: -scores(images)

    monkeypatch.setitem(FORMATS, "litert", dataclasses.replace(litert, open=damaged))
    report = export(model, card, tmp_path, ["litert"], limit=100)
    (breach,) = report.breaches
    assert breach.startswith("model.tflite (litert) loses ")
    assert (tmp_path / "model.tflite").exists()
    assert json.loads((tmp_path / "report.json").read_text())["rows"][1]["drop"] > 0.1


def test_scores_that_are_no_numbers_are_a_breach_at_any_accuracy(model, card, tmp_path, monkeypatch):
    never_right = dataclasses.replace(
        FORMATS["litert"], open=lambda path, threads: lambda images: np.full((len(images), 10), np.nan)
    )
    monkeypatch.setitem(FORMATS, "litert", never_right)
    monkeypatch.setattr(module, "keras_predictor", lambda model: Predictor("keras", lambda x: np.eye(10)[[0] * len(x)]))
    # The first images of the split that are no zeros: the model is never right either, so nothing is lost.
    report = export(model, card, tmp_path, ["litert"], limit=1)
    assert report.rows[1].drop == 0
    assert report.breaches == ["model.tflite (litert) gives scores that are not finite for 1 of 1 images."]


def test_a_report_has_null_in_place_of_infinity(tmp_path):
    row = Row("litert", "model.tflite", 1, largest_score_difference=float("inf"))
    text = Report("digits", None, None, 1, {}, (row,)).save(tmp_path).read_text()
    assert json.loads(text, parse_constant=pytest.fail)["rows"][0]["largest_score_difference"] is None


@pytest.fixture
def earlier(report, base, tmp_path):
    """A copy of the first export."""
    return shutil.copytree(base, tmp_path / "digits")


def test_a_second_export_adds_a_version_and_replaces_the_files(model, card, earlier):
    (earlier / "model.tflite").write_bytes(b"old")
    report = export(model, card, earlier, ["saved_model", "litert"], limit=10)
    assert report.rows[1].file == "2"
    assert (earlier / "1" / "saved_model.pb").exists()
    assert report.rows[2].bytes == (earlier / "model.tflite").stat().st_size > 3


def test_a_saved_model_is_measured_before_a_server_can_see_it(model, card, tmp_path, monkeypatch):
    seen, saved_model = [], FORMATS["saved_model"]

    def watched(path, threads):
        seen.extend(entry.name for entry in tmp_path.iterdir() if not entry.name.startswith("."))
        scores = saved_model.open(path, threads)
        return lambda images: scores(images) * np.nan

    with monkeypatch.context() as patched:
        patched.setitem(FORMATS, "saved_model", dataclasses.replace(saved_model, open=watched))
        report = export(model, card, tmp_path, ["saved_model"], limit=10)
    assert seen == []
    assert report.breaches == ["withheld (saved_model) gives scores that are not finite for 10 of 10 images."]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "report.json", "withheld"]
    assert (tmp_path / "withheld" / "saved_model.pb").is_file()
    # Repaired, it takes its number, and what was withheld goes.
    assert export(model, card, tmp_path, ["saved_model"], limit=10).breaches == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "model.json", "report.json"]


def test_no_file_stays_beside_the_card_of_another_model(model, card, earlier):
    shutil.rmtree(earlier / "1")
    export(model, card, earlier, ["litert"], limit=10)
    assert {"model.onnx", "model.tflite"} < {path.name for path in earlier.iterdir()}
    other = dataclasses.replace(card, name="other")
    export(model, other, earlier, ["litert"], limit=10)
    assert sorted(path.name for path in earlier.iterdir()) == ["model.json", "model.tflite", "report.json"]
    assert ModelCard.load(earlier / "model.json") == other


@pytest.mark.parametrize("name", ["model.tflite", "model.json", "withheld/mine.txt"])
def test_files_that_no_export_wrote_are_not_replaced(model, card, tmp_path, name):
    for file in (name, "web/mine.html"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("mine")
    with pytest.raises(ValueError, match=f"holds {name.partition('/')[0]} but no report.json"):
        export(model, card, tmp_path, ["litert"], limit=10)
    (tmp_path / name).unlink()
    shutil.rmtree(tmp_path / "withheld", ignore_errors=True)
    export(model, card, tmp_path, ["litert"], limit=10)
    assert (tmp_path / "web/mine.html").read_text() == "mine"


def test_an_export_that_fails_leaves_the_earlier_one(model, card, earlier, monkeypatch):
    before = {path: path.read_bytes() for path in earlier.rglob("*") if path.is_file()}

    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setitem(FORMATS, "onnx", dataclasses.replace(FORMATS["onnx"], write=fail))
    other = dataclasses.replace(card, name="other")
    with pytest.raises(OSError, match="No space left"):
        export(model, other, earlier, ["saved_model", "litert", "onnx"], limit=10)
    assert {path: path.read_bytes() for path in earlier.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in earlier.parent.iterdir()) == ["digits"]


def test_without_a_dataset_artefacts_are_compared_on_random_images(model, card, tmp_path):
    published = dataclasses.replace(card, dataset=None)
    report = export(model, published, tmp_path, ["saved_model", "litert"], limit=20)
    assert (report.dataset, report.split, report.examples, report.breaches) == (None, None, 20, [])
    assert [(row.top1, row.top5, row.drop) for row in report.rows] == [(None, None, None)] * 3
    for row in report.rows[1:]:
        assert row.agreement == 1
        assert row.largest_logit_difference < 1e-4
    assert json.loads((tmp_path / "report.json").read_text())["rows"][0]["top1"] is None
    assert (tmp_path / "1" / "saved_model.pb").is_file()


def test_random_images_fill_the_range_of_the_models_input(card):
    preprocessing = dataclasses.replace(card.preprocessing, mean=0.0, std=0.5)
    batches = list(RandomImages(dataclasses.replace(card, preprocessing=preprocessing)))
    images = np.concatenate([images for images, _ in batches])
    assert images.shape == (64, 8, 8, 1)
    assert images.min() == pytest.approx(0, abs=0.01)
    assert images.max() == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize(
    ("formats", "changes", "message"),
    [
        (["tensorrt"], {}, "The formats are saved_model, .* but got tensorrt"),
        ([], {}, "but got none"),
        (["litert_int8"], {"dataset": None}, "int8 needs images to calibrate on, .* names no dataset"),
        (["saved_model"], {"dataset": DatasetSpec("digits", "nope")}, "nope"),
        (["litert"], {"class_names": ("a", "b")}, "The card does not fit the model"),
    ],
)
def test_bad_input_is_an_error_before_anything_is_written(model, card, tmp_path, formats, changes, message):
    with pytest.raises(ValueError, match=message):
        export(model, dataclasses.replace(card, **changes), tmp_path / "out", formats)
    assert not (tmp_path / "out").exists()


def test_a_missing_package_names_the_install_command(model, card, tmp_path, monkeypatch):
    for package in ("onnx", "tf2onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    message = r'onnx needs onnx, tf2onnx, onnxruntime, which are not installed: pip install "keras_mixer\[onnx\]"'
    with pytest.raises(ImportError, match=message):
        export(model, card, tmp_path / "out", ["saved_model", "onnx"])
    assert not (tmp_path / "out").exists()


def test_the_limits_are_the_stated_ones():
    limits = {name: form.limit for name, form in FORMATS.items()}
    assert limits.pop("litert_dynamic_int8") == 0.3
    assert limits.pop("litert_int8") == limits.pop("openvino_int8") == 0.5
    assert set(limits.values()) == {0.1}
