import gc
import sys

import digit_models
import keras
import numpy as np
import pytest

from keras_mixer.artefacts import export_onnx, export_openvino, open_artefact


@pytest.mark.parametrize(("export", "name"), [(export_onnx, "model.onnx"), (export_openvino, "model.xml")])
def test_scores_are_the_models_at_any_batch_size(model, tmp_path, export, name):
    predictor = open_artefact(export(model, tmp_path / name))
    for size in (1, 5):
        images = digit_models.random_images(size)
        np.testing.assert_allclose(predictor.scores(images), model.predict_on_batch(images), atol=1e-5)


def test_openvino_keeps_its_weights_beside_it(model, tmp_path):
    export_openvino(model, tmp_path / "model.xml")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.bin", "model.xml"]


def test_the_exact_gelu_is_refused_and_leaves_no_file(tmp_path):
    inputs = keras.Input((8,))
    outputs = keras.layers.Dense(3)(keras.activations.gelu(keras.layers.Dense(8)(inputs), approximate=False))
    thresholds = gc.get_threshold()  # which the export changes
    with pytest.raises(ValueError, match="ONNX cannot hold the exact GELU"):
        export_onnx(keras.Model(inputs, outputs), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
    assert gc.get_threshold() == thresholds


@pytest.mark.parametrize("export", [export_onnx, export_openvino])
def test_a_wrong_suffix_is_an_error(model, tmp_path, export):
    with pytest.raises(ValueError, match="must end in"):
        export(model, tmp_path / "model.bin")


def test_a_missing_runtime_names_the_install_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as if it were not installed
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(ImportError, match=r'pip install "keras_mixer\[onnx\]"'):
        open_artefact(tmp_path / "model.onnx")
