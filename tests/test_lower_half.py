"""The lower half of the package without TensorFlow: it imports, and says what to install."""

import subprocess
import sys

import pytest

IMPORTS = """
import sys
sys.modules["tensorflow"] = sys.modules["tensorflow_datasets"] = None  # importing them now raises ImportError
import keras_mixer
from keras_mixer.data import *
from keras_mixer.training import *
from keras_mixer.cli.main import COMMANDS, keras_mixer_command
keras_mixer.training.recipes.get("digits")
for name in COMMANDS:
    keras_mixer_command.get_command(None, name)
for call in (
    lambda: load("digits"),
    lambda: evaluation_batches(None, Preprocessing(), 1),
    lambda: training_batches(None, Preprocessing(), Augmentation(), 1, seed=0),
    lambda: train(recipes.get("digits"), sys.argv[1]),
):
    try:
        call()
    except ImportError as error:
        assert 'pip install "keras_mixer[tensorflow]"' in str(error), error
    else:
        raise AssertionError("no TensorFlow was needed")
"""
COMMAND = """
import sys
sys.modules["tensorflow"] = None
from keras_mixer.cli import main
main(sys.argv[1:])
"""


def run(script, *arguments, folder):
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={"KERAS_BACKEND": "jax", "PATH": "", "HOME": str(folder)},
        capture_output=True,
        text=True,
    )


def test_it_imports_and_names_the_extra(tmp_path):
    result = run(IMPORTS, str(tmp_path / "run"), folder=tmp_path)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["train", "--recipe", "digits", "--show-recipe"], 0, '"batch_size": 64'),
        (["train", "--recipe", "digits", "--output", "run"], 2, 'pip install "keras_mixer[tensorflow]"'),
    ],
)
def test_the_command_line_answers(arguments, status, text, tmp_path):
    result = run(COMMAND, *arguments, folder=tmp_path)
    assert result.returncode == status, result.stderr
    assert text in result.stdout + result.stderr
