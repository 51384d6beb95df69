"""Training where TensorFlow is not installed: an environment with the extra `jax`, used from the command line."""

import json
import pathlib
import signal
import subprocess
import time

import pytest
from foreign import ENVIRONMENTS, python_environment, run

from keras_mixer.training import recipes, train

ROOT = pathlib.Path(__file__).parents[2]
DIGITS = ROOT / "tests" / "data" / "digits"
SHORT = ["--set=schedule.epochs=10", "--set=execution.checkpoint_steps=40"]
VARIABLES = {"KERAS_BACKEND": "jax", "PYTHONUNBUFFERED": "1"}


@pytest.fixture(scope="module")
def program():
    python = pathlib.Path(python_environment("jax-alone", f"{ROOT}[jax]"))
    missing = "import importlib.util, sys; sys.exit(importlib.util.find_spec('tensorflow') is not None)"
    run(python, "-c", missing)
    return python.with_name("keras-mixer")


def test_digits_are_trained_killed_resumed_and_used(program, tmp_path):
    """With the accuracy that the same recipe has on TensorFlow's pipeline, up to chance."""
    folder = tmp_path / "run"
    command = [program, "train", "--recipe", "digits", "--output", folder, *SHORT]
    process = subprocess.Popen([*map(str, command)], env={**VARIABLES, "HOME": str(tmp_path)}, cwd=ENVIRONMENTS)
    try:
        deadline = time.monotonic() + 600
        while not list((folder / "checkpoints").glob("*")) and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.2)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (folder / "model.keras").exists()
    result = json.loads(run(*command, "--json", **VARIABLES))[0]
    again = json.loads(run(program, "evaluate", folder, "--json", **VARIABLES))[0]
    assert again["examples"] == 360
    assert again["top1"] == pytest.approx(result["accuracy"], abs=1e-6)  # one is float32
    here = train(recipes.get("digits").override({"schedule.epochs": "10"}), tmp_path / "here")
    assert result["accuracy"] == pytest.approx(here.accuracy, abs=0.02)
    predicted = json.loads(run(program, "predict", "--model", folder, "--json", *DIGITS.glob("*.png"), **VARIABLES))
    best = {row["image"]: row["class"] for row in predicted if row["rank"] == 1}
    assert len(best) == len(list(DIGITS.glob("*.png")))
    assert all(pathlib.Path(image).name.startswith(name) for image, name in best.items())
    run(program, "visualize", folder, "--output", tmp_path / "pictures", **VARIABLES)
    assert list((tmp_path / "pictures").glob("*.png"))
