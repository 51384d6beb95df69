"""Every engine against the reference implementation's logits, and the choice between engines."""

import contextlib
import dataclasses
import json
import logging
import re
import shutil
import signal
import subprocess
import sys
import time

import digit_models
import goldens
import keras
import numpy as np
import psutil
import pytest

from keras_mixer import engines, machine, weights
from keras_mixer.artefacts import export_litert, export_onnx
from keras_mixer.artefacts.predictor import in_bfloat16
from keras_mixer.data import evaluation_batches, load
from keras_mixer.engines import backends, choosing, worker
from keras_mixer.engines.conversion import cache_folder, digest_of, source_of

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
    for size in (1, len(images)):  # PyTorch compiles the model again for more images
        assert goldens.relative_error(predictor.scores(images[:size].astype(np.float64)), logits[:size]) < LOGITS
    assert predictor.scores(images[:0]).shape == (0, logits.shape[1])


@pytest.mark.parametrize("engine", ["tensorflow", "jax", "torch", "openvino"])
def test_golden_logits_in_bfloat16(golden, engine):
    """Half of the last of 8 bits is 0.2 %, and the errors of the sums partly cancel."""
    images, logits, _ = goldens.answers()
    error = goldens.relative_error(engines.open_engine(golden, engine, "bfloat16").scores(images), logits)
    assert error < 0.03
    if engine != "openvino":  # which computes in float32 on CPUs without bfloat16
        assert error > LOGITS


@pytest.fixture(scope="module")
def run(digits, model):
    """A run folder, and the classes that its model gives to some digits."""
    ((images, _, _),) = evaluation_batches(load("digits", "test", str(digits)), digit_models.PREPROCESSING, 360)
    images = images.numpy()
    return digits / "run", images, model.predict_on_batch(images).argmax(axis=1)


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


def test_all_that_follows_the_last_weights_computes_in_float32():
    images = keras.Input((8,))
    scores = keras.layers.Activation("softmax")(keras.layers.Dense(4)(keras.layers.Dense(8)(images)))
    half = in_bfloat16(keras.Model(images, keras.ops.clip(scores, 0.0, 1.0)))
    assert [layer.compute_dtype for layer in half.layers[1:]] == ["bfloat16", "float32", "float32"]


@pytest.mark.parametrize("sequential", [True, False])
def test_the_last_weights_may_be_in_a_model_within_the_model(sequential):
    images = keras.Input((8,))
    inner = keras.Sequential([images, keras.layers.Dense(6), keras.layers.Dense(4)])
    if not sequential:
        inner = keras.Model(inner.inputs[0], inner.outputs[0])
    half = in_bfloat16(keras.Model(images, keras.layers.Softmax()(inner(images))))
    nested, softmax = half.layers[1:]
    assert [layer.compute_dtype for layer in nested.layers[-2:]] == ["bfloat16", "float32"]
    assert softmax.compute_dtype == "float32"


def test_how_a_model_was_compiled_does_not_matter(golden):
    plain = source_of(golden)
    compiled = keras.Model(golden.inputs[0], golden.outputs[0], name=golden.name)
    compiled.compile(keras.optimizers.Adam(), "mse")
    compiled.optimizer.build(compiled.trainable_variables)
    shutil.rmtree(plain.path.parent)
    assert source_of(compiled) == plain
    assert digest_of(compiled) == plain.digest
    assert getattr(keras.models.load_model(plain.path), "optimizer", None) is None


def test_a_digest_writes_nothing(golden, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    digest_of(golden)
    assert list(tmp_path.iterdir()) == []


def _two_inputs():
    images = [keras.Input((8, 8, 1)), keras.Input((8, 8, 1))]
    return keras.Model(images, keras.layers.Add()(images))


def _any_size():
    images = keras.Input((None, None, 1))
    return keras.Model(images, keras.layers.GlobalAveragePooling2D()(images))


class _Subclass(keras.Model):
    def call(self, images):
        return images


@pytest.mark.parametrize(
    ("make", "message"),
    [(_two_inputs, "one input"), (_any_size, "images of one size"), (_Subclass, "a functional model")],
)
def test_other_models_are_refused_before_they_are_saved(monkeypatch, tmp_path, make, message):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=message):
        engines.open_engine(make(), "onnxruntime")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("samples", [[], np.zeros((0, 16, 16, 3)), np.zeros((2, 5, 5, 3)), [np.zeros((2, 16, 16, 3))]])
def test_samples_of_another_shape_are_refused(golden, samples):
    with pytest.raises(ValueError, match=r"`samples` is an array of preprocessed images of shape \(n, \d+"):
        engines.open_engine(golden, "openvino", "int8", samples=samples)


def test_a_refused_file_is_not_made_again(golden, monkeypatch, tmp_path):
    calls = []
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(backends, "write", lambda *arguments: calls.append(arguments) or "Only 10% keep their class.")
    samples = np.zeros((2, *golden.input_shape[1:]), np.float32)
    for _ in range(2):
        with pytest.raises(ValueError, match="Only 10% keep their class"):
            engines.open_engine(golden, "openvino", "int8", samples=samples)
    assert len(calls) == 1
    monkeypatch.setattr(machine, "processor", lambda: "another processor")  # on which the file may be good
    with pytest.raises(ValueError, match="Only 10%"):
        engines.open_engine(golden, "openvino", "int8", samples=samples)
    assert len(calls) == 2


def test_a_conversion_that_fails_leaves_no_folder(golden, monkeypatch):
    def write(path, form, target, samples):
        target.write_text("half a file")
        raise RuntimeError("no memory")

    source_of(golden)
    before = set(cache_folder().iterdir())
    monkeypatch.setattr(backends, "write", write)
    monkeypatch.setattr(machine, "versions", lambda modules: {"openvino": "another"})
    with pytest.raises(RuntimeError, match="no memory"):
        engines.open_engine(golden, "openvino")
    assert set(cache_folder().iterdir()) == before


def test_the_fastest_is_measured_once_and_remembered(golden, monkeypatch, caplog):
    monkeypatch.setattr(choosing, "ENGINES", {name: engines.ENGINES[name] for name in RUNTIMES})
    monkeypatch.setattr(choosing, "_SECONDS", 0.0)
    caplog.set_level(logging.INFO, "keras_mixer")
    images, logits, _ = goldens.answers()
    predictor = engines.open_engine(golden, precision="float32")
    (file,) = (cache_folder() / "choices").iterdir()
    entry = json.loads(file.read_text())
    rates = entry["images_per_second"]
    assert set(rates) == set(RUNTIMES)
    assert predictor.format == entry["engine"] == max(rates, key=rates.__getitem__)
    assert goldens.relative_error(predictor.scores(images), logits) < LOGITS
    assert sum("Engine: " in message for message in caplog.messages) == 1

    other = keras.models.clone_model(golden)  # of the same design
    monkeypatch.setattr(choosing, "fastest", None)  # would fail if it were called
    again = engines.open_engine(other)
    assert again.format == predictor.format
    assert "when it was measured" in caplog.messages[-1]
    np.testing.assert_allclose(again.scores(images), other.predict_on_batch(images), atol=1e-4)


def memory_of(model, batch_size=8):
    return choosing._RememberedChoice(
        [engines.ENGINES[name] for name in RUNTIMES], source_of(model), "int8", batch_size
    )


def test_a_change_of_the_machine_or_of_a_converter_is_measured_anew(golden, monkeypatch):
    paths = [memory_of(golden).path, memory_of(golden, 4).path]
    with monkeypatch.context() as changed:
        changed.setenv("CUDA_VISIBLE_DEVICES", "3")
        paths.append(memory_of(golden).path)
    versions = machine.versions
    monkeypatch.setattr(machine, "versions", lambda modules: versions(set(modules) - {"nncf"}))  # as if not installed
    paths.append(memory_of(golden).path)
    assert len(set(paths)) == 4


@pytest.mark.parametrize("content", ["", "[]", '{"engine": []}', '{"engine": "gone"}'])
def test_a_damaged_memory_is_measured_anew(golden, monkeypatch, content):
    monkeypatch.setattr(choosing, "ENGINES", {name: engines.ENGINES[name] for name in ("openvino", "onnxruntime")})
    monkeypatch.setattr(choosing, "_SECONDS", 0.0)
    engines.open_engine(golden)
    files = list((cache_folder() / "choices").iterdir())
    for file in files:
        file.write_text(content)
    assert engines.open_engine(golden).format in ("openvino", "onnxruntime")
    assert {json.loads(file.read_text())["engine"] for file in files if file.read_text() != content} <= set(RUNTIMES)
    assert any(file.read_text() != content for file in files)


class _ForeignError(Exception):
    """Of no class that the package knows."""


def test_an_engine_that_fails_is_left_out(golden, monkeypatch, caplog):
    def run(*_):
        raise _ForeignError("no such processor")

    broken = engines.Engine("broken", (), "", run, {"float32": ("keras",)})
    monkeypatch.setattr(choosing, "ENGINES", {"broken": broken, "onnxruntime": engines.ENGINES["onnxruntime"]})
    monkeypatch.setattr(choosing, "_SECONDS", 0.0)
    caplog.set_level(logging.INFO, "keras_mixer")
    assert engines.open_engine(golden).format == "onnxruntime"
    assert "The engine broken is left out: no such processor" in caplog.messages
    monkeypatch.setattr(choosing._RememberedChoice, "choice", lambda _: "broken")  # it worked when it was measured
    assert engines.open_engine(golden).format == "onnxruntime"
    assert "The engine broken, the fastest when it was measured, fails: no such processor" in caplog.messages
    monkeypatch.setattr(choosing, "ENGINES", {"broken": broken, "too": dataclasses.replace(broken, name="too")})
    with pytest.raises(ValueError, match=r"No engine runs the model\. broken: no such processor; too: no such"):
        engines.open_engine(golden)


def test_exported_files_run_as_they_are(golden, tmp_path, monkeypatch):
    images, logits, _ = goldens.answers()
    card = digit_models.card(tmp_path)
    card.save(tmp_path / "model.json")
    onnx = export_onnx(golden, tmp_path / "model.onnx")
    litert = export_litert(golden, tmp_path / "model.tflite")
    for path, engine in ((onnx, "onnxruntime"), (onnx, "openvino"), (litert, "litert"), (litert, "auto")):
        assert goldens.relative_error(engines.open_engine(path, engine).scores(images), logits) < LOGITS
    for path, engine, precision in ((onnx, "litert", "float32"), (litert, "auto", "bfloat16"), (onnx, "jax", "int8")):
        with pytest.raises(ValueError, match=r"cannot run a model of the format .* An exported file runs as it was"):
            engines.open_engine(path, engine, precision)
    monkeypatch.setattr(engines.Engine, "is_installed", False)
    with pytest.raises(ValueError, match=r"What is installed cannot .*litert \(float32; not installed: pip install"):
        engines.open_engine(litert, precision="int8")


@pytest.mark.parametrize("wrong", [{"engine": "tflite"}, {"precision": "float16"}])
def test_unknown_names_are_refused(golden, wrong):
    with pytest.raises(ValueError, match=r"is .*one of"):
        engines.open_engine(golden, **wrong)


def test_errors_of_a_backends_process_are_raised_here(tmp_path):
    (tmp_path / "model.keras").write_bytes(b"no archive")
    with pytest.raises((ValueError, RuntimeError), match=r"model\.keras"):
        worker.predictor_of("jax", tmp_path / "model.keras", "float32")


NOTHING = ("nothing", ())  # a request that the process refuses with a KeyError, before it imports Keras


def test_a_process_goes_on_after_an_error(tmp_path, monkeypatch):
    """Its errors keep their names, and the files of the working folder are not taken for modules."""
    (tmp_path / "pickle.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    process = worker.Worker("jax")
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"^KeyError: 'nothing'$"):
            process.ask(NOTHING)


def test_a_process_that_was_killed_says_so():
    process = worker.Worker("jax")
    process._process.send_signal(signal.SIGKILL)
    with pytest.raises(RuntimeError, match=r"backend jax ended with the exit status -9.* memory was full"):
        process.ask(NOTHING)
    with pytest.raises(RuntimeError, match=r"was ended: open the model again"):
        process.ask(NOTHING)


BUSY = """
import sys
from keras_mixer.engines.worker import Worker

class Long:
    def __reduce__(self):
        return exec, (f"import pathlib, time; pathlib.Path({sys.argv[1]!r}).touch(); time.sleep(60)",)

process = Worker("jax")
print(process._process.pid, flush=True)
process.ask(Long())
"""


def test_a_process_ends_with_the_one_that_started_it(tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", BUSY, tmp_path / "busy"], stdout=subprocess.PIPE, text=True)
    busy = psutil.Process(int(parent.stdout.readline()))
    deadline = time.monotonic() + 40
    while not (tmp_path / "busy").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    parent.kill()
    parent.communicate()
    with contextlib.suppress(psutil.NoSuchProcess):  # or a zombie, where nobody asks for its status
        while busy.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_an_interrupted_call_ends_the_process():
    """Its answer would otherwise be that of the next call."""

    def interrupt(*_):
        raise TimeoutError("the user's own")

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        process = worker.Worker("jax")
        signal.setitimer(signal.ITIMER_REAL, 0.02)  # the process takes longer to start
        with pytest.raises(TimeoutError, match="the user's own"):
            process.ask(NOTHING)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert process._process.returncode is not None
    with pytest.raises(RuntimeError, match="was ended"):
        process.ask(NOTHING)


def test_a_cache_that_cannot_be_written_is_replaced_for_the_process(golden, monkeypatch, tmp_path, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file"))
    images, logits, _ = goldens.answers()
    with caplog.at_level(logging.WARNING, logger="keras_mixer"):
        for engine in ("tensorflow", "litert"):
            assert goldens.relative_error(engines.open_engine(golden, engine).scores(images), logits) < LOGITS
    (warning,) = (record for record in caplog.records if record.name.startswith("keras_mixer"))
    assert "set KERAS_HOME" in warning.getMessage()


def test_a_batch_of_no_images_is_refused(golden):
    with pytest.raises(ValueError, match="`batch_size` must be a positive integer, but got 0"):
        engines.open_engine(golden, batch_size=0)
