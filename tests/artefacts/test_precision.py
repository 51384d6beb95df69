import digit_models
import keras
import numpy as np
import pytest

from keras_mixer.artefacts import export_litert, export_onnx, open_artefact
from keras_mixer.artefacts.predictor import in_float32


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
