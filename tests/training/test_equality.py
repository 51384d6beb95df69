"""The same global batches give the same weights on one device, two, two processes and four of JAX; so do whole runs."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

from keras_mixer.data import load_model
from keras_mixer.training import recipes, train
from keras_mixer.training.loop.checkpoints import CheckpointStore

PROGRAM = pathlib.Path(__file__).with_name("several_devices.py")
# An evaluation batch of 249 becomes one of 250 on two devices and of 252 on four, and the last one then has 110 or 108
# of the 360 test digits: none for the last device.
SMALL = {
    "model.num_blocks": "1",
    "model.hidden_dim": "8",
    "model.tokens_mlp_dim": "4",
    "model.channels_mlp_dim": "8",
    "model.image_size": "[8, 8]",
    "schedule.epochs": "null",
    "schedule.steps": "16",
    "schedule.warmup_steps": "1",
    "data.train_split": "train[:320]",
    "eval_steps": "16",
    "eval_batch_size": "249",
}
# Adds one number to all channels of a token, which every LayerNorm after it takes away again: its gradient is nothing
# but rounding, and Adam scales that up.
WITHOUT_EFFECT = "token_mixing/Dense_1/bias"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("devices")


@pytest.fixture(scope="module")
def recipe():
    return recipes.get("digits").override(SMALL)


@pytest.fixture(scope="module")
def results(folder, recipe):
    """What four processes that run at the same time find; beside them, `alone`, the run of this one."""
    (folder / "recipe.json").write_text(recipe.to_json())
    on_jax = {"KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), str(folder), *parts],
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "KERAS_BACKEND": "tensorflow", **environment},
            stdout=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        for parts, environment in ((("replicas", "chief", "worker"), {}), (("jax",), on_jax))
    ]
    try:
        found: dict = {"alone": train(recipe, folder / "alone").accuracy}
        (_, printed) = (process.communicate(timeout=1200)[0] for process in processes)
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    for part in ("replicas", "chief", "worker", "jax"):
        assert (folder / f"{part}.npz").exists(), (folder / f"{part}.txt").read_text()[-4000:]
        with np.load(folder / f"{part}.npz") as stored:
            found |= dict(stored)
    return {**found, "printed": printed}


@pytest.mark.parametrize(
    "case",
    ["parts", "two", "two_parts_together_compiled", "chief", "worker", "four", "four_parts_together"],
)
def test_devices_and_parts_do_not_change_what_is_learned(results, case):
    for group in ("weight", "average"):
        expected, got = _group(results, "one", group), _group(results, case, group)
        assert expected.keys() == got.keys()
        assert _difference(_all(got), _all(expected)) <= 1e-5
        for name in expected:
            if WITHOUT_EFFECT not in name:
                assert _difference(got[name], expected[name]) <= 1e-6, name
    for metric in ("loss", "accuracy"):
        np.testing.assert_allclose(results[f"{case}/{metric}"], results[f"one/{metric}"], rtol=1e-6)


def test_each_device_drops_other_samples_and_the_first_those_that_one_device_drops(results):
    first, second, alone = results["draws"]
    np.testing.assert_array_equal(first, alone)
    assert 16 < (first != second).sum() < 48


def test_clipping_was_active_and_weights_moved(results):
    clipped, unclipped = _group(results, "four", "weight"), _group(results, "unclipped", "weight")
    assert _difference(_all(unclipped), _all(clipped)) > 1e-4
    averages = _group(results, "one", "average")
    assert _difference(_all(averages), _all(_group(results, "one", "weight"))) > 1e-4


def test_a_run_on_two_devices_and_one_in_two_processes_end_like_one(results, folder):
    assert [results[f"{process}/place"].tolist() for process in ("chief", "worker")] == [[2, 0], [2, 1]]
    for run in ("mirrored", "chief", "worker"):
        assert results[f"{run}/run"] == pytest.approx(results["alone"], abs=1e-6)
    for strategy in ("mirrored", "multi_worker"):
        assert _difference(_saved(folder / strategy), _saved(folder / "alone")) <= 1e-5


def test_an_interrupted_process_stops_its_cluster_and_one_device_goes_on(results, folder, recipe):
    assert not {"chief/not interrupted", "worker/not interrupted"} & results.keys()
    (step,) = CheckpointStore(folder / "interrupted" / "checkpoints").steps()
    assert 3 <= step <= 12  # by how long the second step took
    assert train(recipe, folder / "interrupted").accuracy == pytest.approx(results["alone"], abs=1e-6)
    assert _difference(_saved(folder / "interrupted"), _saved(folder / "alone")) <= 1e-5


def test_processes_that_would_go_on_from_different_steps_all_stop_before_a_folder_is_touched(results, folder):
    for process in ("chief", "worker"):
        assert re.search(
            r"from the same step, .* steps \d+, 0: .* storage that they share", str(results[f"{process}/apart"])
        )
    assert not (folder / "elsewhere").exists()


def test_the_command_line_trains_on_four_devices_of_jax(results, folder):
    """The model is then read by this process's backend."""
    assert json.loads(results["printed"])[0]["steps"] == 16
    model, card = load_model(folder / "data_parallel")
    assert model.output_shape == (None, len(card.class_names))


def test_a_tpu_that_does_not_answer(results):
    assert str(results["tpu"]).startswith("No TPU answers: ")
    assert "pip install 'keras_mixer[tpu]'" in str(results["tpu"])


def _group(results, case, group) -> dict:
    prefix = f"{case}/{group}/"
    return {key.removeprefix(prefix): value for key, value in results.items() if key.startswith(prefix)}


def _all(arrays: dict) -> np.ndarray:
    return np.concatenate([array.ravel() for array in arrays.values()])


def _difference(got, expected) -> float:
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


def _saved(folder) -> np.ndarray:
    return np.concatenate([weight.ravel() for weight in load_model(folder)[0].get_weights()])
