"""`keras-mixer predict` on an exported file leaves TensorFlow and Keras alone, and finds what they find."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from keras_mixer.artefacts import open_classifier
from keras_mixer.data import pixels

TINY = pathlib.Path(__file__).parents[1] / "data" / "v01" / "saved_models" / "tiny"
SCRIPT = """
import sys
from keras_mixer.cli.main import _run
assert _run(sys.argv[1:]) == 0
loaded = {"tensorflow", "keras", "jax", "torch", "scipy"} & set(sys.modules)
assert not loaded, loaded
"""


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Large enough to be resized; one is turned by its EXIF data."""
    folder = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for name, turned in (("a.jpg", None), ("b.jpg", 6), ("c.png", None)):
        small = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8))
        exif = Image.Exif()
        if turned:
            exif[0x0112] = turned
        small.resize((160, 120), Image.Resampling.BICUBIC).save(folder / name, exif=exif)
    return folder


@pytest.mark.parametrize(
    ("name", "engine"),
    [("model.tflite", None), ("model.onnx", None), ("model.xml", None), ("model.onnx", "openvino")],
)
def test_predict(photographs, name, engine):
    arguments = ["predict", "--model", TINY / name, "--top", "10", "--json", photographs]
    arguments += [] if engine is None else ["--engine", engine]
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)
    predictor, card = open_classifier(TINY / name)
    for path in sorted(photographs.iterdir()):
        image = pixels.preprocess(path.read_bytes(), card.preprocessing, pixels.read).numpy()
        found = {row["class"]: row["score"] for row in rows if row["image"] == str(path)}
        (expected,) = predictor.scores(image[np.newaxis])
        np.testing.assert_allclose([found[label] for label in card.class_names], expected, atol=1e-3)
