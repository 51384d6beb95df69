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
JAX = ("jax_first", "jax_second")
CLUSTERS = [("multi_worker", ("chief", "worker")), ("data_parallel", JAX)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("devices")


@pytest.fixture(scope="module")
def recipe():
    return recipes.get("digits").override(SMALL)


def run_program(folder, *programs):
    """Runs a program for each (parts, environment) at once; returns what all parts found, and what each printed."""
    processes = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), str(folder), *parts],
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "KERAS_BACKEND": "tensorflow", **environment},
            stdout=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        for parts, environment in programs
    ]
    try:
        printed = [process.communicate(timeout=1200)[0] for process in processes]
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    found: dict = {}
    for part in (part for parts, _ in programs for part in parts):
        assert (folder / f"{part}.npz").exists(), (folder / f"{part}.txt").read_text()[-4000:]
        with np.load(folder / f"{part}.npz") as stored:
            found |= dict(stored)
    return found, printed


@pytest.fixture(scope="module")
def results(folder, recipe):
    """What one process with two devices finds."""
    (folder / "recipe.json").write_text(recipe.to_json())
    found, _ = run_program(folder, (["replicas"], {}))
    return found


@pytest.fixture(scope="module")
def further(results, folder, recipe):
    """The same with batches in parts, a run on two devices, and `alone`, the run of this process."""
    found, _ = run_program(folder, (["further"], {}))
    return {**results, **found, "alone": train(recipe, folder / "alone").accuracy}


@pytest.fixture(scope="module")
def elsewhere(further, folder):
    """The same with what clusters of two processes find on both backends, and four devices of JAX."""
    found, (_, printed, _) = run_program(
        folder,
        (["chief", "worker"], {}),
        (["jax"], on_jax(devices=4)),
        (["jax_first", "jax_second"], on_jax(devices=2)),
    )
    return {**further, **found, "printed": printed}


def on_jax(devices: int) -> dict:
    return {"KERAS_BACKEND": "jax", "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}


def check_same_weights(results, case):
    for group in ("weight", "average"):
        expected, got = _group(results, "one", group), _group(results, case, group)
        assert expected.keys() == got.keys()
        assert _difference(_all(got), _all(expected)) <= 1e-5
        for name in expected:
            if WITHOUT_EFFECT not in name:
                assert _difference(got[name], expected[name]) <= 1e-6, name
    for metric in ("loss", "accuracy"):
        np.testing.assert_allclose(results[f"{case}/{metric}"], results[f"one/{metric}"], rtol=1e-6)


def test_a_second_device_does_not_change_what_is_learned(results):
    check_same_weights(results, "two")


def test_a_batch_in_parts_does_not_change_what_is_learned(further):
    check_same_weights(further, "parts")


def test_compiled_steps_of_two_devices_change_nothing(results, folder):
    found, _ = run_program(folder, (["compiled"], {}))
    check_same_weights({**results, **found}, "two_parts_together_compiled")


def test_a_run_on_two_devices_ends_like_one(further, folder):
    assert further["mirrored/run"] == pytest.approx(further["alone"], abs=1e-6)
    assert _difference(_saved(folder / "mirrored"), _saved(folder / "alone")) <= 1e-5


@pytest.mark.parametrize("case", ["chief", "worker", "four", "four_parts_together", "jax_first", "jax_second"])
def test_clusters_and_jax_do_not_change_what_is_learned(elsewhere, case):
    check_same_weights(elsewhere, case)


def test_each_device_drops_other_samples_and_the_first_those_that_one_device_drops(results):
    first, second, alone = results["draws"]
    np.testing.assert_array_equal(first, alone)
    assert 16 < (first != second).sum() < 48


def test_weights_moved(results):
    averages = _group(results, "one", "average")
    assert _difference(_all(averages), _all(_group(results, "one", "weight"))) > 1e-4


def test_clipping_was_active(elsewhere):
    clipped, unclipped = _group(elsewhere, "four", "weight"), _group(elsewhere, "unclipped", "weight")
    assert _difference(_all(unclipped), _all(clipped)) > 1e-4


def test_a_run_in_a_cluster_ends_like_one(elsewhere, folder):
    assert [elsewhere[f"{process}/place"].tolist() for process in ("chief", "worker")] == [[2, 0], [2, 1]]
    for run in ("chief", "worker"):
        assert elsewhere[f"{run}/run"] == pytest.approx(elsewhere["alone"], abs=1e-6)
    assert _difference(_saved(folder / "multi_worker"), _saved(folder / "alone")) <= 1e-5


@pytest.mark.parametrize(
    ("run", "same"),
    [
        ("host_processes", "host_default"),
        ("data_parallel_interrupted", "host_default"),
        ("device_processes", "device_default"),
        ("device_data_parallel", "device_default"),
    ],
)
def test_a_run_of_jax_processes_ends_like_one(elsewhere, folder, run, same):
    assert [elsewhere[f"{process}/place"].tolist() for process in JAX] == [[2, 0], [2, 1]]
    assert _difference(_saved(folder / run), _saved(folder / same)) <= 1e-5


@pytest.mark.parametrize("pipeline", ["host", "device"])
def test_jax_processes_measure_the_same(elsewhere, pipeline):
    first, second = (float(elsewhere[f"{process}/{pipeline}"]) for process in JAX)
    assert first == second


@pytest.mark.parametrize("pipeline", ["host", "device"])
def test_the_pipeline_that_a_run_did_not_begin_with_is_refused(elsewhere, pipeline):
    assert "another recipe, which differs in execution.pipeline" in str(elsewhere[f"refused/{pipeline}"])


def test_a_diverged_loss_stops_jax_processes_together(elsewhere):
    for process in JAX:
        assert "is nan" in str(elsewhere[f"{process}/diverged"])


@pytest.mark.parametrize(("strategy", "processes"), CLUSTERS)
def test_a_cluster_stops_with_an_interrupted_process(elsewhere, strategy, processes):
    assert not {f"{process}/not interrupted" for process in processes} & elsewhere.keys()


def test_one_device_goes_on_after_an_interrupted_cluster(elsewhere, folder, recipe):
    run = folder / "multi_worker_interrupted"
    (step,) = CheckpointStore(run / "checkpoints").steps()
    assert 3 <= step <= 12  # by how long the second step took
    assert train(recipe, run).accuracy == pytest.approx(elsewhere["alone"], abs=1e-6)
    assert _difference(_saved(run), _saved(folder / "alone")) <= 1e-5


@pytest.mark.parametrize(("strategy", "processes"), CLUSTERS)
def test_a_cluster_that_would_go_on_from_different_steps_stops_before_a_folder_is_touched(
    elsewhere, folder, strategy, processes
):
    for process in processes:
        assert re.search(
            r"from the same step, .* steps \d+, 0: .* storage that they share", str(elsewhere[f"{process}/apart"])
        )
    assert not (folder / "elsewhere").exists()


@pytest.mark.parametrize(("strategy", "processes"), CLUSTERS)
def test_a_cluster_whose_processes_have_different_recipes_names_the_fields(elsewhere, folder, strategy, processes):
    for process in processes:
        assert "differ in batch_size, seed: give all of them the same command" in str(elsewhere[f"{process}/differing"])
    assert not (folder / "differing").exists()


def test_the_command_line_trains_on_four_devices_of_jax(elsewhere, folder):
    """The model is then read by this process's backend."""
    assert json.loads(elsewhere["printed"])[0]["steps"] == 16
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
