"""The lower half of the package without TensorFlow: it imports, and says what to install."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "keras_mixer"
# The modules that need TensorFlow when they are imported: other modules import them inside functions.
WITH_TENSORFLOW = {
    "artefacts.decoding",
    "data.augmentation.mixing",
    "data.augmentation.randaugment",
    "data.augmentation.steps",
    "data.orientation",
    "data.pixels",
    "data.sources.digits",
    "data.sources.folder",
    "data.sources.tfds",
    "data.storage",
    "data.stream",
    "training.loop.elementwise",
    "training.loop.step_tensorflow",
}

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


def imported(module: ast.Module) -> set[str]:
    """The names that a module imports when it is imported itself."""
    names = set()
    for statement in module.body:
        if isinstance(statement, ast.Import):
            names |= {alias.name for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            names |= {statement.module, *(f"{statement.module}.{alias.name}" for alias in statement.names)}
    return names


@pytest.mark.parametrize("wing", ["data", "artefacts", "evaluation", "export", "prediction", "training", "cli"])
def test_only_named_modules_import_tensorflow(wing):
    heavy = {"tensorflow", "tensorflow_datasets", *(f"keras_mixer.{name}" for name in WITH_TENSORFLOW)}
    found = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for path in (PACKAGE / wing).rglob("*.py")
        if imported(ast.parse(path.read_text())) & heavy
    }
    assert found == {name for name in WITH_TENSORFLOW if name.startswith(f"{wing}.")}


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
