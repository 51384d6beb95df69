"""Every engine against the reference implementation's logits, and the choice between engines."""

import json
import logging
import re

import digit_models
import goldens
import keras
import numpy as np
import pytest

from keras_mixer import engines, weights
from keras_mixer.artefacts import export_litert, export_onnx
from keras_mixer.artefacts.predictor import in_bfloat16
from keras_mixer.data import evaluation_batches, load
from keras_mixer.engines import choosing, worker
from keras_mixer.engines.conversion import folder

LOGITS = 1e-4  # as for the files that these engines run
RUNTIMES = ("openvino", "litert", "onnxruntime")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras_home")))
        yield


@pytest.fixture(scope="module")
def golden():
    model = goldens.mixer()
    weights.load(model, goldens.TINY)
    return model


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_golden_logits(golden, engine):
    images, logits, _ = goldens.answers()
    predictor = engines.open_engine(golden, engine)
    assert predictor.format == engine
    for size in (len(images), 1):
        assert goldens.relative_error(predictor.scores(images[:size]), logits[:size]) < LOGITS


@pytest.mark.parametrize("engine", ["tensorflow", "jax", "torch", "openvino"])
def test_golden_logits_in_bfloat16(golden, engine):
    """Half of the last of 8 bits is 0.2 %, and the errors of the sums partly cancel."""
    images, logits, _ = goldens.answers()
    error = goldens.relative_error(engines.open_engine(golden, engine, "bfloat16").scores(images), logits)
    assert error < 0.03
    if engine != "openvino":  # which computes in float32 on CPUs without bfloat16
        assert error > LOGITS


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder, and the classes that its model gives to some digits."""
    folder = tmp_path_factory.mktemp("runs")
    model = digit_models.fitted(folder)
    ((images, _, _),) = evaluation_batches(load("digits", "test", str(folder)), digit_models.PREPROCESSING, 360)
    images = images.numpy()
    return digit_models.write_run(folder / "digits", model), images, model.predict_on_batch(images).argmax(axis=1)


@pytest.mark.parametrize(("engine", "samples"), [("openvino", None), ("litert", None), ("openvino", 50)])
def test_int8_keeps_the_classes(run, engine, samples):
    """Scales come from the given images, or from those that the card names. OpenVINO needs a CPU with VNNI."""
    path, images, classes = run
    try:
        predictor = engines.open_engine(path, engine, "int8", samples=None if samples is None else images[:samples])
    except ValueError as error:
        assert engine == "openvino"
        assert re.search(r"only \d+% of \d+ images keep their class", str(error))  # noqa: PT017
        return
    assert (predictor.scores(images).argmax(axis=1) == classes).mean() > 0.95


def test_without_a_card_int8_needs_no_images_in_litert_alone(golden):
    images, logits, _ = goldens.answers()
    assert goldens.relative_error(engines.open_engine(golden, "litert", "int8").scores(images), logits) < 0.2
    with pytest.raises(ValueError, match="int8 needs images to calibrate on"):
        engines.open_engine(golden, "openvino", "int8")


def test_bfloat16_leaves_the_scores_in_float32(golden):
    half = in_bfloat16(golden)
    assert {weight.dtype for weight in half.layers[1].weights} == {"bfloat16"}
    assert {weight.dtype for weight in half.layers[-1].weights} == {"float32"}
    assert golden.dtype_policy.name == keras.config.dtype_policy().name == "float32"


def test_the_fastest_is_measured_once_and_remembered(golden, monkeypatch, caplog):
    monkeypatch.setattr(choosing, "ENGINES", {name: engines.ENGINES[name] for name in RUNTIMES})
    monkeypatch.setattr(choosing, "_SECONDS", 0.0)
    caplog.set_level(logging.INFO, "keras_mixer")
    images, logits, _ = goldens.answers()
    predictor = engines.open_engine(golden, precision="float32")
    (entry,) = json.loads((folder() / choosing.CHOICES_FILE).read_text()).values()
    rates = entry["images_per_second"]
    assert set(rates) == set(RUNTIMES)
    assert predictor.format == entry["engine"] == max(rates, key=rates.__getitem__)
    assert goldens.relative_error(predictor.scores(images), logits) < LOGITS
    assert sum("Engine: " in message for message in caplog.messages) == 1

    other = keras.models.clone_model(golden)  # of the same design
    monkeypatch.setattr(choosing, "_rate", None)  # would fail if it were called
    again = engines.open_engine(other)
    assert again.format == predictor.format
    assert "when it was measured" in caplog.messages[-1]
    np.testing.assert_allclose(again.scores(images), other.predict_on_batch(images), atol=1e-4)


@pytest.mark.parametrize("content", ["", "[]", '{"key": 3}'])
def test_a_damaged_memory_is_measured_anew(golden, monkeypatch, content):
    monkeypatch.setattr(choosing, "ENGINES", {name: engines.ENGINES[name] for name in ("openvino", "onnxruntime")})
    monkeypatch.setattr(choosing, "_SECONDS", 0.0)
    folder().mkdir(parents=True, exist_ok=True)
    (folder() / choosing.CHOICES_FILE).write_text(content)
    assert engines.open_engine(golden).format in ("openvino", "onnxruntime")
    assert len(json.loads((folder() / choosing.CHOICES_FILE).read_text())) >= 1


def test_an_engine_that_fails_is_left_out(golden, monkeypatch, caplog):
    broken = engines.Engine("broken", (), "", lambda *_: _raise(), {"float32": ("keras",)})
    monkeypatch.setattr(choosing, "ENGINES", {"broken": broken, "onnxruntime": engines.ENGINES["onnxruntime"]})
    monkeypatch.setattr(choosing, "_SECONDS", 0.0)
    caplog.set_level(logging.INFO, "keras_mixer")
    (folder() / choosing.CHOICES_FILE).unlink(missing_ok=True)
    assert engines.open_engine(golden).format == "onnxruntime"
    assert "The engine broken is left out: no such processor" in caplog.messages


def _raise():
    raise RuntimeError("no such processor")


def test_exported_files_run_as_they_are(golden, tmp_path):
    images, logits, _ = goldens.answers()
    card = digit_models.card(tmp_path)
    card.save(tmp_path / "model.json")
    onnx = export_onnx(golden, tmp_path / "model.onnx")
    litert = export_litert(golden, tmp_path / "model.tflite")
    for path, engine in ((onnx, "onnxruntime"), (onnx, "openvino"), (litert, "litert"), (litert, "auto")):
        assert goldens.relative_error(engines.open_engine(path, engine).scores(images), logits) < LOGITS
    for path, engine, precision in ((onnx, "litert", "float32"), (litert, "auto", "bfloat16"), (onnx, "jax", "int8")):
        with pytest.raises(ValueError, match="cannot run a model of the format"):
            engines.open_engine(path, engine, precision)


@pytest.mark.parametrize("wrong", [{"engine": "tflite"}, {"precision": "float16"}])
def test_unknown_names_are_refused(golden, wrong):
    with pytest.raises(ValueError, match=r"is .*one of"):
        engines.open_engine(golden, **wrong)


def test_errors_of_a_backends_process_are_raised_here(tmp_path):
    (tmp_path / "model.keras").write_bytes(b"no archive")
    with pytest.raises((ValueError, RuntimeError), match=r"model\.keras"):
        worker.scores_of("jax", tmp_path / "model.keras", "float32")
    process = worker.Worker("jax")
    process.close()
    with pytest.raises((RuntimeError, ValueError), match=r"ended|closed"):
        process.ask(("scores", (np.zeros(1),)))
