"""A format of one's own: one file, one call of `register`, and everything takes it."""

import json
import zipfile

import digit_models
import keras
import numpy as np
import pytest
from command_line import error_line

from keras_mixer.artefacts import FORMATS, Format, open_classifier, packed, register
from keras_mixer.cli.main import main
from keras_mixer.export import export


def write(model, path, card, samples):
    """A zip file around a `.keras` file."""
    model.save(path.with_suffix(".keras"))
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(path.with_suffix(".keras"), "model.keras")
    path.with_suffix(".keras").unlink()
    path.with_suffix(".note").write_text("beside it")
    return path


def open_(path, threads):
    with zipfile.ZipFile(path) as archive:
        model = keras.models.load_model(archive.extract("model.keras", path.parent / ".unzipped"))
    return lambda images: np.asarray(model.predict_on_batch(images))


@pytest.fixture
def toy():
    yield register(Format("toy", "model.toy", write, open_, companions=("{stem}.note",)))
    del FORMATS["toy"]


@pytest.fixture
def foreign():
    """It cannot run on this machine, and lies in a folder."""

    def write_folder(model, path, card, samples):
        path.mkdir()
        (path / "weights").write_bytes(b"1234")
        return path

    yield register(Format("foreign", "model.foreign", write_folder, open=None))
    del FORMATS["foreign"]


def status(*arguments) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return exit_.value.code


def test_it_is_exported_measured_and_opened(toy, model, card, tmp_path):
    report = export(model, card, tmp_path, ["toy"], limit=20)
    row = report.rows[1]
    assert (row.artefact, row.file, row.agreement, row.limit) == ("toy", "model.toy", 1, 0.1)
    assert row.bytes == (tmp_path / "model.toy").stat().st_size + len("beside it")
    assert report.breaches == []
    predictor, found = open_classifier(tmp_path / "model.toy")
    assert (predictor.format, found) == ("toy", card)
    images = digit_models.random_images(2)
    np.testing.assert_allclose(predictor.scores(images), model.predict_on_batch(images), atol=1e-6)
    assert list(packed(tmp_path / "model.toy")) == ["model.toy", "model.note", "model.json"]


def test_the_command_line_takes_it(toy, digits, tmp_path, capsys):
    assert status("export", digits / "run", "--formats", "toy", "--limit", 20, "--output", tmp_path, "--json") == 0
    assert [row["artefact"] for row in json.loads(capsys.readouterr().out)] == ["keras", "toy"]
    assert status("export", digits / "run", "--formats", "other", "--output", tmp_path) == 2
    assert "'toy'" in error_line(capsys.readouterr().err)


def test_what_cannot_run_here_is_written_and_reported_as_not_run(foreign, model, card, tmp_path):
    for _ in range(2):  # the second export replaces the folder
        report = export(model, card, tmp_path, ["foreign"], limit=5)
    row = report.rows[1]
    assert (row.note, row.file, row.bytes, row.top1, row.milliseconds) == (
        "not run here",
        "model.foreign",
        4,
        None,
        None,
    )
    assert report.breaches == []
    assert (tmp_path / "model.foreign" / "weights").read_bytes() == b"1234"
    assert list(packed(tmp_path / "model.foreign")) == ["model.foreign/weights", "model.json"]
    with pytest.raises(ValueError, match="cannot run the format foreign"):
        open_classifier(tmp_path / "model.foreign")


@pytest.mark.parametrize(
    ("name", "file", "message"),
    [("litert", "model.x", "called 'litert'"), ("mine", "model.onnx", "opens .onnx"), ("mine", "m.keras", "choose")],
)
def test_names_and_suffixes_are_taken_once(name, file, message):
    with pytest.raises(ValueError, match=message):
        register(Format(name, file, write, open_))
