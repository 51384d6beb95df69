import os
import subprocess
import sys

import pytest
import tensorflow as tf

from keras_mixer.artefacts.predictor import worth_compiling


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
