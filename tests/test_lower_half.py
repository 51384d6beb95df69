"""The lower half of the package without TensorFlow: it imports, and says what to install."""

import ast
import pathlib
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "keras_mixer"
# The modules that need TensorFlow when they are imported: other modules import them inside functions.
WITH_TENSORFLOW = {
    "artefacts.decoding",
    "data.orientation",
    "data.pixels",
    "data.sources.digits",
    "data.sources.tfds",
    "data.storage",
    "data.stream",
    "training.loop.compiled_elementwise",
    "training.loop.step_tensorflow",
}

IMPORTS = """
import sys
sys.modules["tensorflow"] = sys.modules["tensorflow_datasets"] = None  # importing them now raises ImportError
import keras_mixer
from keras_mixer.data import *
from keras_mixer.training import *
from keras_mixer.cli.main import COMMANDS, keras_mixer_command
recipe = keras_mixer.training.recipes.get("digits")
for name in COMMANDS:
    keras_mixer_command.get_command(None, name)
for call in (
    lambda: load("cifar10"),
    lambda: training_batches(load("digits"), Preprocessing(), Augmentation(), 2, seed=0),
    lambda: Preprocessing()(bytes()),
    lambda: Augmentation().augment(bytes(), Preprocessing(), (0, 0)),
    lambda: train(recipe.override({"data.name": "cifar10"}), sys.argv[1]),
    lambda: train(recipe.override({"execution.pipeline": "host"}), sys.argv[1]),
):
    try:
        call()
    except ImportError as error:
        assert 'pip install "keras_mixer[tensorflow]"' in str(error), error
    else:
        raise AssertionError("no TensorFlow was needed")
"""
# Everything that a run needs from its beginning to its pictures, in one process.
RUN = """
import logging, pathlib, signal, sys
sys.modules["tensorflow"] = sys.modules["tensorflow_datasets"] = None
import keras
import numpy as np
import pytest
from keras_mixer.cli.main import _run
from keras_mixer.data import load_model
from keras_mixer.training import recipes, train
from keras_mixer.training.loop.checkpoints import CheckpointStore

folder, output = map(pathlib.Path, sys.argv[1:])
tiny = {
    "model.num_blocks": "1", "model.hidden_dim": "16", "model.tokens_mlp_dim": "8", "model.channels_mlp_dim": "16",
    "model.stochastic_depth": "0.2", "model.dropout": "0.1", "augmentation.mixup": "0.2", "ema_momentum": "0.9",
    "schedule.epochs": "null", "schedule.steps": "12", "schedule.warmup_steps": "2", "eval_steps": "5",
    "execution.checkpoint_steps": "3", "batch_size": "32",
}
photos = {
    "data.name": str(folder), "preprocessing.image_size": "[12, 12]", "preprocessing.channels": "3",
    "augmentation.crop": "inception", "batch_size": "8", "schedule.steps": "4", "ema_momentum": "null",
}

class Stop(keras.callbacks.Callback):
    left = 7
    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            signal.raise_signal(signal.SIGINT)

recipe = recipes.get("digits").override(tiny)
whole = train(recipe, output / "whole")
with pytest.raises(KeyboardInterrupt):
    train(recipe, output / "run", callbacks=[Stop()])
assert train(recipe, output / "run").steps == whole.steps == 12
models = [load_model(output / name)[0].get_weights() for name in ("whole", "run")]
for ours, theirs in zip(*models, strict=True):
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
_, _, notes = CheckpointStore(output / "run" / "checkpoints").load_newest()
assert '"pipeline": "device"' in notes["recipe"]
for asked, message in (("host", "needs tensorflow"), ("device", None)):
    again = recipe.override({"execution.pipeline": asked})
    try:
        train(again, output / "run")
    except ImportError as error:
        assert message and message in str(error)
    else:
        assert message is None

run = str(output / "photos")
train(recipes.get("digits").override(tiny | photos), run)
image = next((folder / "test").rglob("*.jpg"))
assert _run(["evaluate", run, "--json"]) == 0
assert _run(["predict", "--model", run, "--json", str(image), str(folder)]) == 0
assert _run(["data", str(folder)]) == 0
assert _run(["predict", "--model", run, str(folder / "none.jpg")]) == 2
assert _run(["evaluate", run, "--dataset", "cifar10"]) == 2
assert sys.modules["tensorflow"] is None
assert not [name for name in sys.modules if name.startswith(("tensorflow.", "tensorflow_datasets."))]
"""
COMMAND = """
import sys
sys.modules["tensorflow"] = sys.modules["aiohttp"] = sys.modules["prometheus_client"] = None
from keras_mixer.cli import main
main(sys.argv[1:])
"""


def run(script, *arguments, folder):
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={"KERAS_BACKEND": "jax", "PATH": "", "HOME": str(folder)},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def digit_folder(tmp_path):
    """Bright and dark images of several sizes in two splits."""
    random = np.random.default_rng(0)
    for number in range(36):
        name = ("dark", "light")[number % 2]
        path = tmp_path / "images" / ("train" if number < 24 else "test") / name / f"{number:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = random.integers(0, 100, (20 + number % 3, 24, 3)) + 150 * (number % 2)
        PIL.Image.fromarray(noise.astype(np.uint8)).save(path)
    return tmp_path / "images"


def test_it_imports_and_names_the_extra(tmp_path):
    result = run(IMPORTS, str(tmp_path / "run"), folder=tmp_path)
    assert result.returncode == 0, result.stderr


def test_a_run_trains_stops_resumes_and_is_used(tmp_path, digit_folder):
    result = run(RUN, digit_folder, tmp_path / "runs", folder=tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]


def imported(module: ast.Module) -> set[str]:
    """The names that a module imports when it is imported itself."""
    names = set()
    for statement in module.body:
        if isinstance(statement, ast.Import):
            names |= {alias.name for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            names |= {statement.module, *(f"{statement.module}.{alias.name}" for alias in statement.names)}
    return names


@pytest.mark.parametrize("package", ["data", "artefacts", "evaluation", "export", "prediction", "training", "cli"])
def test_only_named_modules_import_tensorflow(package):
    heavy = {"tensorflow", "tensorflow_datasets", *(f"keras_mixer.{name}" for name in WITH_TENSORFLOW)}
    found = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for path in (PACKAGE / package).rglob("*.py")
        if imported(ast.parse(path.read_text())) & heavy
    }
    assert found == {name for name in WITH_TENSORFLOW if name.startswith(f"{package}.")}


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["train", "--recipe", "digits", "--show-recipe"], 0, '"batch_size": 64'),
        (["train", "--recipe", "digits", "--dataset", "mnist", "--output", "run"], 2, "There is no folder mnist. Read"),
        (["export", "tests/data/v01/finished", "--formats", "saved_model"], 2, 'pip install "keras_mixer[tensorflow]"'),
        (["invariance", "--patch-size", "3", "--limit", "10"], 2, "multiple of the patch size"),
        (["serve", "tests/data/v01/saved_models/tiny"], 2, 'pip install "keras_mixer[tensorflow]"'),
    ],
)
def test_the_command_line_answers(arguments, status, text, tmp_path):
    result = run(COMMAND, *arguments, folder=tmp_path)
    assert result.returncode == status, result.stderr
    assert text in result.stdout + result.stderr
