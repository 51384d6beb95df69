"""Runtimes that read the exported files, in the environments that their users have."""

import json
import pathlib
import shutil

import numpy as np
import pytest
import web_page
from foreign import PROGRAMS, largest_difference, node_environment, python_environment, run


def scores(example, environment: tuple[str, ...], runtime: str, file: str) -> list:
    python = python_environment(*environment)
    printed = run(python, PROGRAMS / "runtime.py", runtime, example.folder / file, example.folder / "images.npz")
    return json.loads(printed.splitlines()[-1])


@pytest.mark.parametrize(
    ("environment", "runtime", "file", "limit"),
    [
        (("tflite-2.14", "tflite-runtime==2.14.0", "numpy<2"), "tflite_runtime", "model.tflite", 1e-5),
        (("litert", "ai-edge-litert"), "ai_edge_litert", "model.tflite", 1e-5),
        (("litert", "ai-edge-litert"), "ai_edge_litert", "model_dynamic_int8.tflite", 0.1),
        (("mediapipe", "mediapipe"), "opencv", "model.onnx", 1e-5),
        (("onnxruntime", "onnxruntime"), "onnxruntime", "model.onnx", 1e-5),
        (("tensorflow-2.16", "tensorflow-cpu==2.16.2"), "tensorflow", "1", 1e-5),
    ],
    ids=["tflite-2.14", "litert", "litert-int8", "opencv", "onnxruntime", "tensorflow-2.16"],
)
def test_scores_are_the_models(example, capsys, environment, runtime, file, limit):
    found = scores(example, environment, runtime, file)
    assert largest_difference(example, found, capsys, f"{environment[1]}, {file}") < limit


def test_an_old_runtime_refuses_dynamic_int8_as_its_file_says(example):
    from keras_mixer.artefacts.litert import min_runtime

    assert min_runtime(example.folder / "model_dynamic_int8.tflite") == "2.17.0"
    with pytest.raises(AssertionError, match=r"FULLY_CONNECTED|version"):
        scores(
            example,
            ("tflite-2.14", "tflite-runtime==2.14.0", "numpy<2"),
            "tflite_runtime",
            "model_dynamic_int8.tflite",
        )


def test_mediapipe_takes_a_file_as_it_is(example, capsys):
    """It reads class names and scaling from the file. Its photographs have the model's size, so nothing is resized."""
    python = python_environment("mediapipe", "mediapipe")
    arguments = [example.folder / "model.tflite", example.folder / "files.txt"]
    found = json.loads(run(python, PROGRAMS / "mediapipe_tasks.py", *arguments).splitlines()[-1])
    rows = [[row[name] for name in example.class_names] for row in found]
    assert largest_difference(example, rows, capsys, "mediapipe, model.tflite") < 1e-3


@pytest.mark.skipif(not shutil.which("npm"), reason="npm is not on the PATH")
def test_mediapipe_in_chromium_takes_a_file_as_it_is(example, capsys, tmp_path):
    modules = pathlib.Path(node_environment("mediapipe-web", "@mediapipe/tasks-vision")["NODE_PATH"])
    (tmp_path / "mediapipe").symlink_to(modules / "@mediapipe" / "tasks-vision")
    (tmp_path / "model.tflite").symlink_to(example.folder / "model.tflite")
    (tmp_path / "index.html").write_text("<!doctype html><title>MediaPipe</title>")
    photographs = (example.folder / "files.txt").read_text().splitlines()
    for index, file in enumerate(photographs):
        (tmp_path / f"{index}.jpg").symlink_to(file)
    with web_page.chromium() as start, start() as browser, web_page.hosted(tmp_path) as address:
        page = browser.new_page()
        page.goto(address)
        found = page.evaluate((PROGRAMS / "mediapipe_tasks.js").read_text(), len(photographs))
    rows = [[row[name] for name in example.class_names] for row in found]
    assert largest_difference(example, rows, capsys, "@mediapipe/tasks-vision in Chromium, model.tflite") < 1e-3


@pytest.mark.skipif(not shutil.which("npm"), reason="npm is not on the PATH")
def test_onnxruntime_in_node(example, capsys, tmp_path):
    with np.load(example.folder / "images.npz") as file:
        file["images"].tofile(tmp_path / "values")
    variables = node_environment("node", "onnxruntime-node", "@grpc/grpc-js", "@grpc/proto-loader")
    arguments = [example.folder / "model.onnx", tmp_path / "values", len(example.scores)]
    found = json.loads(run(shutil.which("node"), PROGRAMS / "onnx.cjs", *arguments, **variables))
    assert largest_difference(example, found, capsys, "onnxruntime-node, model.onnx") < 1e-5


@pytest.mark.skipif(not shutil.which("npm"), reason="npm is not on the PATH")
def test_tensorflow_js(example, capsys, tmp_path):
    """By the recipe of `docs/interop.md`."""
    needed = (
        "tensorflow-cpu==2.16.2",
        "tf_keras==2.16.0",
        "tensorflow_hub==0.16.1",
        "jax==0.4.30",
        "setuptools<80",
        "six",
    )
    python = pathlib.Path(python_environment("tensorflowjs", *needed))
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "tensorflowjs==4.22.0")
    (packages,) = python.parents[1].glob("lib/python*/site-packages")
    (packages / "tensorflow_decision_forests").mkdir(exist_ok=True)
    (packages / "tensorflow_decision_forests" / "__init__.py").touch()
    options = ["--input_format=tf_saved_model", "--signature_name=serving_default", "--saved_model_tags=serve"]
    run(python.with_name("tensorflowjs_converter"), *options, example.folder / "1", tmp_path / "web_model")
    with np.load(example.folder / "images.npz") as file:
        file["images"].tofile(tmp_path / "values")
    arguments = [tmp_path / "web_model", tmp_path / "values", len(example.scores)]
    printed = run(
        shutil.which("node"), PROGRAMS / "tfjs.cjs", *arguments, **node_environment("tfjs", "@tensorflow/tfjs")
    )
    found = json.loads(printed.splitlines()[-1])
    assert largest_difference(example, found, capsys, "TensorFlow.js, converted from the SavedModel") < 1e-5
