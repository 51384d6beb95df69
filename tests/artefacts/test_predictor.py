import os
import subprocess
import sys

import digit_models
import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mixer.artefacts import export_litert, export_onnx, open_artefact
from keras_mixer.artefacts.predictor import in_float32, worth_compiling


@pytest.mark.parametrize(("devices", "expected"), [([], False), (["GPU"], True), (["TPU"], True)])
def test_tensorflow_compiles_for_accelerators(devices, expected, monkeypatch):
    monkeypatch.setattr("keras.backend.backend", lambda: "tensorflow")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind] if kind in devices else [])
    assert worth_compiling() is expected


def test_pytorch_stays_eager_whatever_tensorflow_sees(monkeypatch):
    monkeypatch.setattr("keras.backend.backend", lambda: "torch")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    assert worth_compiling() is False


def test_a_model_measured_on_jax_is_traced_once_for_all_its_images():
    script = """
import keras, numpy as np
from keras_mixer.artefacts import keras_predictor
calls = []
class Counting(keras.layers.Layer):
    def call(self, images):
        calls.append(type(images).__name__)
        return keras.ops.mean(images, axis=(1, 2))
images = keras.Input((4, 4, 3))
predictor = keras_predictor(keras.Model(images, Counting()(images)))
calls.clear()
for _ in range(3):
    predictor.scores(np.ones((2, 4, 4, 3), "float32"))
print(len(calls), set(calls))
"""
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    found = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    calls, kinds = found.stdout.split(maxsplit=1)
    assert int(calls) == 1
    assert "Tracer" in kinds


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
def test_every_layer_computes_in_float32_with_the_same_weights(policy):
    keras.config.set_dtype_policy(policy)
    half = digit_models.untrained()
    whole = in_float32(half)
    assert {layer.compute_dtype for layer in whole._flatten_layers()} == {"float32"}
    for found, expected in zip(whole.weights, half.weights, strict=True):
        np.testing.assert_array_equal(found.numpy(), np.asarray(expected.numpy(), np.float32))


def test_a_float32_model_is_left_alone(model):
    assert in_float32(model) is model


@pytest.mark.parametrize(("export", "name"), [(export_litert, "model.tflite"), (export_onnx, "model.onnx")])
def test_a_model_in_half_precision_is_exported_in_float32(tmp_path, export, name):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = digit_models.untrained()
    images = digit_models.random_images(4)
    found = open_artefact(export(model, tmp_path / name)).scores(images)
    np.testing.assert_allclose(found, in_float32(model).predict_on_batch(images), atol=1e-5)
