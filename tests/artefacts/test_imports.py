"""What importing the packages loads, and what opening a file loads."""

import os
import pathlib
import subprocess
import sys

import pytest

TINY = pathlib.Path(__file__).parents[1] / "data" / "v01" / "saved_models" / "tiny"


def run(script: str, **environment) -> None:
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("package", ["artefacts", "evaluation", "export", "prediction", "serving.server"])
def test_importing_a_package_loads_no_framework(package):
    run(f"import sys, keras_mixer.{package}\nassert not {{'keras', 'tensorflow', 'jax', 'torch'}} & set(sys.modules)\n")


def test_what_needs_tensorflow_says_what_to_install():
    run(
        "import sys\n"
        "sys.modules['tensorflow'] = None\n"
        "from keras_mixer.export import export_saved_model\n"
        "try:\n"
        "    export_saved_model(None, 'nowhere', None)\n"
        "except ImportError as error:\n"
        "    assert 'pip install \"keras_mixer[tensorflow]\"' in str(error), error\n",
        KERAS_BACKEND="jax",
    )


@pytest.mark.parametrize("name", ["model.tflite", "model.onnx", "model.xml"])
def test_opening_loads_neither_keras_nor_tensorflow(name):
    path = str(TINY / name)
    script = (
        "import sys, numpy as np\n"
        "from keras_mixer.evaluation import open_classifier\n"
        f"predictor, card = open_classifier({path!r})\n"
        "assert predictor.scores(np.zeros((2, 32, 32, 1), 'float32')).shape == (2, 10)\n"
        "assert not {'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
