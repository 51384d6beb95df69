import shutil

import digit_models
import numpy as np
import pytest

from keras_mixer.artefacts import (
    export_litert,
    fingerprint,
    keras_predictor,
    newest_version,
    open_artefact,
    open_classifier,
    packed,
)
from keras_mixer.data import load_model


@pytest.mark.parametrize("artefact", ["exports/digits", "exports/digits/1", "exports/digits/model.tflite"])
def test_artefacts_score_batches_of_any_size_as_the_model_does(digits, exported, model, artefact):
    reference, predictor = keras_predictor(model), open_artefact(digits / artefact)
    for size in (1, 3, 8, 2):
        images = digit_models.random_images(size)
        np.testing.assert_allclose(predictor.scores(images), reference.scores(images), atol=1e-5)


def test_a_litert_file_of_another_batch_size_is_filled_up(model, tmp_path):
    predictor = open_artefact(export_litert(model, tmp_path / "model.tflite", batch_size=4))
    images = digit_models.random_images(6)
    np.testing.assert_allclose(predictor.scores(images), keras_predictor(model).scores(images), atol=1e-5)


def test_a_litert_file_of_any_batch_size(model, tmp_path):
    predictor = open_artefact(export_litert(model, tmp_path / "model.tflite", batch_size=None))
    for size in (5, 1, 5):
        images = digit_models.random_images(size)
        np.testing.assert_allclose(predictor.scores(images), keras_predictor(model).scores(images), atol=1e-5)


def test_size_is_that_of_all_files(exported):
    version = exported / "1"
    assert open_artefact(version).size == sum(path.stat().st_size for path in version.rglob("*") if path.is_file())
    assert open_artefact(exported / "model.tflite").size == (exported / "model.tflite").stat().st_size


def test_versions_are_compared_as_numbers(exported, tmp_path):
    for version in ("9", "10", "11"):
        shutil.copytree(exported / "1", tmp_path / version)
    (tmp_path / "11" / "saved_model.pb").unlink()  # half copied
    assert newest_version(tmp_path) == tmp_path / "10"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.tflite", None, "There is no model"),
        ("model.h5", b"", "is not a model"),
        ("model.onnx", b"garbage", r"model\.onnx cannot be opened as onnx"),
        ("model.xml", b"garbage", r"model\.xml cannot be opened as openvino"),
        ("model.tflite", b"garbage", r"model\.tflite cannot be opened as litert"),
    ],
)
def test_what_is_no_model_is_an_error(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        open_artefact(tmp_path / name)


def test_a_folder_without_a_version_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="holds no SavedModel"):
        open_artefact(tmp_path)


@pytest.mark.parametrize("opens", [open_artefact, open_classifier, load_model])
def test_a_run_that_has_not_ended_is_an_error_that_says_so(tmp_path, opens):
    (tmp_path / "recipe.json").write_text("{}")
    with pytest.raises(ValueError, match=r"has not ended, .* run its train command again"):
        opens(tmp_path)


@pytest.mark.parametrize(
    "path", ["run", "run/model.keras", "exports/digits", "exports/digits/1", "exports/digits/model.tflite"]
)
def test_every_form_of_a_model_has_the_same_card_and_scores(digits, exported, model, card, path):
    predictor, found = open_classifier(digits / path)
    assert found == card
    images = digit_models.random_images(2)
    np.testing.assert_allclose(predictor.scores(images), model.predict_on_batch(images), atol=1e-5)


def test_a_file_without_its_card_is_an_error(exported, tmp_path):
    shutil.copy(exported / "model.tflite", tmp_path)
    with pytest.raises(ValueError, match=r"has no card: expected .*model\.json"):
        open_classifier(tmp_path / "model.tflite")


@pytest.mark.parametrize(
    ("model", "own"),
    [
        ("flowers.keras", ["flowers.json"]),
        ("flowers.tflite", ["model.json"]),
        ("flowers.onnx", ["flowers.onnx.data", "model.json"]),
        ("flowers.xml", ["flowers.bin", "model.json"]),
    ],
)
def test_a_model_is_told_by_its_own_files_alone(tmp_path, model, own):
    (tmp_path / model).write_bytes(b"model")
    alone = fingerprint(tmp_path / model)
    for name in ("flowers.json", "flowers.bin", f"{model}.data", "model.json"):
        (tmp_path / name).write_bytes(b"first")
        first = fingerprint(tmp_path / model)
        (tmp_path / name).write_bytes(b"second")
        assert len({alone, first, fingerprint(tmp_path / model)}) == (3 if name in own else 1), name
        alone = fingerprint(tmp_path / model)
    assert list(packed(tmp_path / model)) == [model, *own]
