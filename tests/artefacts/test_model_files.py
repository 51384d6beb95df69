"""Which files make up a model, and so change what it is told by."""

import pytest

from keras_mixer.artefacts import fingerprint, packed


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
