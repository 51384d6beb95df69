"""Choice of devices, and whole runs on several of them."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from keras_mixer.data import load_model
from keras_mixer.training import recipes, train
from keras_mixer.training.checkpoints import CheckpointStore
from keras_mixer.training.distribution import Distribution, choose

# An evaluation batch of 250 leaves 110 of the 360 test digits for the last one: the second of two devices has none.
SMALL = {
    "model.num_blocks": "1",
    "model.hidden_dim": "8",
    "model.tokens_mlp_dim": "4",
    "model.channels_mlp_dim": "8",
    "model.image_size": "[8, 8]",
    "schedule.epochs": "null",
    "schedule.steps": "3",
    "schedule.warmup_steps": "1",
    "eval_batch_size": "250",
}
# The second process of a cluster that is to be interrupted sends itself a signal in its third step.
PROGRAM = """
import json, os, signal, sys
import keras
import tensorflow as tf
if sys.argv[3] == "mirrored":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from keras_mixer.training import Recipe, train

class Interrupt(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        if batch == 2 and json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 1:
            os.kill(os.getpid(), signal.SIGTERM)

recipe = Recipe.from_json(open(sys.argv[1]).read())
interruption = [Interrupt()] if sys.argv[4:] == ["interrupted"] else []
print(train(recipe, sys.argv[2], callbacks=interruption).accuracy)
"""


def test_the_default_is_one_device():
    assert choose("auto") == choose("default") == Distribution("default")


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ("horovod", "one of auto, default"),
        ("multi_worker", "TF_CONFIG, which is not set"),
        ("data_parallel", "KERAS_BACKEND=jax"),
    ],
)
def test_what_cannot_be(strategy, message, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match=message):
        choose(strategy)


def test_a_tpu_that_does_not_answer():
    """In a process of its own, for connecting changes what devices a process sees."""
    program = "from keras_mixer.training.distribution import choose; choose('tpu')"
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    last = process.stderr.strip().rsplit("\n", 1)[-1]
    assert last.startswith("ValueError: No TPU answers: ")
    assert "pip install 'keras_mixer[tpu]'" in last


def test_a_broken_cluster_description(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{cluster")
    with pytest.raises(ValueError, match="TF_CONFIG must be a JSON object"):
        choose("auto")


def test_a_batch_that_devices_cannot_share_says_what_would_do():
    devices = Distribution("mirrored", replicas=4)
    devices.check_batch("batch_size", 64, micro_batches=2)
    with pytest.raises(ValueError, match=r"batch_size=36 must give each of 4 devices .* in 2 parts: .* multiple of 8"):
        devices.check_batch("batch_size", 36, micro_batches=2)


@pytest.mark.parametrize(
    ("name", "strategy", "accelerated", "wish", "expected"),
    [
        ("default", None, False, None, (False, False)),
        ("default", None, False, True, (True, False)),
        ("default", None, True, None, (True, False)),
        ("mirrored", object(), True, None, (False, True)),
        ("mirrored", object(), True, False, (False, False)),
        ("tpu", object(), True, None, (False, False)),
    ],
)
def test_what_xla_compiles(name, strategy, accelerated, wish, expected):
    options = Distribution(name, strategy, accelerated=accelerated).compile_options(wish)
    assert (options["whole_step"], options["gradients"]) == expected


def test_runs_on_two_devices_and_in_two_processes_end_like_one(tmp_path):
    recipe = recipes.get("digits").override(SMALL)
    processes = [_start(recipe, tmp_path, "multi_worker", worker) for worker in _cluster()]
    processes += [_start(recipe, tmp_path, "mirrored", {})]
    alone, answers = _run_beside(processes, lambda: train(recipe, tmp_path / "alone"))
    for process, (output, errors) in zip(processes, answers, strict=True):
        assert process.returncode == 0, errors[-3000:]
        assert float(output.strip().rsplit("\n", 1)[-1]) == pytest.approx(alone.accuracy, abs=1e-6)
    for strategy in ("multi_worker", "mirrored"):
        _same_weights(tmp_path / strategy, alone.folder)


def test_an_interrupted_process_stops_its_cluster_and_one_device_goes_on(tmp_path):
    recipe = recipes.get("digits").override({**SMALL, "schedule.steps": "16"})
    processes = [_start(recipe, tmp_path, "multi_worker", worker, "interrupted") for worker in _cluster()]
    alone, answers = _run_beside(processes, lambda: train(recipe, tmp_path / "alone"))
    for _, errors in answers:
        assert errors.strip().endswith("KeyboardInterrupt"), errors[-3000:]
    folder = tmp_path / "multi_worker"
    (step,) = CheckpointStore(folder / "checkpoints").steps()
    assert 3 <= step <= 12  # by how long the second step took
    assert train(recipe, folder).accuracy == pytest.approx(alone.accuracy, abs=1e-6)
    _same_weights(folder, alone.folder)


def _cluster() -> list[dict]:
    """The environments of two processes that train together."""
    with socket.socket() as first, socket.socket() as second:
        first.bind(("localhost", 0))
        second.bind(("localhost", 0))
        ports = [first.getsockname()[1], second.getsockname()[1]]
    cluster = {"worker": [f"localhost:{port}" for port in ports]}
    return [{"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}})} for i in (0, 1)]


def _start(recipe, folder, strategy, environment, *options) -> subprocess.Popen:
    path = folder / f"{strategy}.json"
    path.write_text(recipe.override({"execution.strategy": strategy}).to_json())
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path), str(folder / strategy), strategy, *options],
        env={**os.environ, "KERAS_BACKEND": "tensorflow", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _run_beside(processes, work):
    """Does `work` while the processes run; returns its result and what they print."""
    try:
        return work(), [process.communicate(timeout=600) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _same_weights(folder, expected):
    got, wanted = (
        np.concatenate([w.ravel() for w in load_model(path)[0].get_weights()]) for path in (folder, expected)
    )
    assert np.linalg.norm(got - wanted) <= 1e-5 * np.linalg.norm(wanted)
