"""Keras's exporter to ONNX of each backend, checked in ONNX Runtime."""

import family
import goldens
import keras
import numpy as np
import pytest

runtime = pytest.importorskip("onnxruntime")


@pytest.mark.backends
@pytest.mark.filterwarnings("ignore")  # the converters' own
@pytest.mark.parametrize("architecture", family.ARCHITECTURES)
def test_every_architecture_gives_the_same_logits(architecture, tmp_path):
    pytest.importorskip({"tensorflow": "tf2onnx", "jax": "jax2onnx", "torch": "onnx"}[keras.backend.backend()])
    model = family.randomised(family.tiny(architecture))
    images = np.random.default_rng(0).random((3, 32, 32, 3)).astype("float32")
    expected = goldens.outputs(model, images)
    model.export(str(tmp_path / "model.onnx"), format="onnx", verbose=False)
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    for size in (3, 1):
        (logits,) = session.run(None, {source.name: images[:size]})
        assert goldens.relative_error(logits, expected[:size]) < 1e-4
