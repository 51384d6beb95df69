"""The shape of the package itself: what it imports, and what importing it costs."""

import operator
import pathlib
import re
import subprocess
import sys

import pytest

import keras_mixer

ROOT = pathlib.Path(__file__).parent.parent


def test_imports_point_one_way():
    lint = pathlib.Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = None  # import tensorflow now raises ImportError
import {order}
keras.models.load_model(sys.argv[1])  # a plain import is enough
import numpy as np
from keras_mixer import *
model = keras_mixer.Mixer(num_blocks=1, patch_size=4, hidden_dim=8, tokens_mlp_dim=4, channels_mlp_dim=8,
                          input_shape=(8, 8, 3), classes=3)
model.save(sys.argv[2])
assert keras.models.load_model(sys.argv[2]).predict(np.zeros((2, 8, 8, 3)), verbose=0).shape == (2, 3)
keras_mixer.layers, keras_mixer.models, keras_mixer.weights, keras_mixer.visualization, keras_mixer.MixerS32
"""


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory) -> str:
    path = str(tmp_path_factory.mktemp("saved") / "model.keras")
    sizes = dict(num_blocks=1, patch_size=4, hidden_dim=8, tokens_mlp_dim=4, channels_mlp_dim=8)
    keras_mixer.Mixer(**sizes, input_shape=(8, 8, 3), classes=3).save(path)
    return path


@pytest.mark.parametrize(
    ("backend", "order"),
    [
        ("jax", "keras_mixer, keras"),
        ("torch", "keras, keras_mixer"),
        ("jax", "keras_mixer.layers.normalisation, keras, keras_mixer"),
    ],
)
def test_works_without_tensorflow_and_loads_a_saved_model_after_a_plain_import(backend, order, saved_model, tmp_path):
    script = WITHOUT_TENSORFLOW.replace("{order}", order)
    result = subprocess.run(
        [sys.executable, "-c", script, saved_model, str(tmp_path / "model.keras")],
        env={"KERAS_BACKEND": backend, "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr


def test_a_plain_import_and_help_load_no_framework():
    script = (
        "import sys, keras_mixer, keras_mixer.cli\n"
        "heavy = {'keras', 'tensorflow', 'jax', 'torch', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_names_in_docstrings_examples_are_there():
    lines = [line for path in ROOT.glob("keras_mixer/**/*.py") for line in path.read_text().splitlines()]
    examples = [line for line in lines if re.match(r"\s*(>>>|\.\.\.) ", line)]
    names = {
        name for line in examples for name in re.findall(r"\bkeras_mixer\.([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)", line)
    }
    assert len(names) > 50
    for name in sorted(names):
        # Of itself, and not because another test has imported the submodule.
        assert name.partition(".")[0] in dir(keras_mixer), name
        operator.attrgetter(name)(keras_mixer)
