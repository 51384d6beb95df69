"""Choice of devices; `test_equality.py` trains on several of them."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.distribute import multi_worker_util

from keras_mixer.training.devices import distribution, processes
from keras_mixer.training.devices.distribution import Distribution, choose, place_in_cluster


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


CHIEF_AND_TWO = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}


@pytest.mark.parametrize(
    ("cluster", "task", "index", "expected"),
    [
        (CHIEF_AND_TWO, "chief", 0, (3, 0)),
        (CHIEF_AND_TWO, "worker", 0, (3, 1)),
        (CHIEF_AND_TWO, "worker", 1, (3, 2)),
        ({"chief": ["a:1"], "worker": ["b:1"], "ps": ["c:1"]}, "worker", "0", (2, 1)),
        ({"worker": ["a:1", "b:1"]}, "worker", 1, (2, 1)),
        ({"chief": ["a:1"]}, "chief", 0, (1, 0)),
    ],
)
def test_the_place_in_a_cluster_is_that_which_tensorflow_counts(monkeypatch, cluster, task, index, expected):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": task, "index": index}}))
    assert place_in_cluster() == expected
    counted = {kind: cluster[kind] for kind in ("chief", "worker") if kind in cluster}
    processes = multi_worker_util.worker_count(counted, task)
    assert (processes, multi_worker_util.id_in_cluster(counted, task, int(index))) == expected


def test_a_cluster_of_a_chief_alone_is_one_device(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"chief": ["a:1"]}, "task": {"type": "chief", "index": 0}}')
    assert choose("auto") == Distribution("default")


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("{cluster", "TF_CONFIG must be a JSON object"),
        ('["a:1"]', "TF_CONFIG must be a JSON object"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}}', "must say which process .* 0 chief and 2 workers"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}', "must say which process"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "evaluator", "index": 0}}', "the task 'evaluator', but"),
        ('{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "ps", "index": 0}}', "the task 'ps', but"),
    ],
)
def test_a_cluster_description_that_cannot_be(monkeypatch, description, message):
    monkeypatch.setenv("TF_CONFIG", description)
    with pytest.raises(ValueError, match=message):
        choose("auto")


def test_a_batch_that_devices_cannot_share_says_what_would_do():
    devices = Distribution("mirrored", replicas=4)
    devices.check_batch("batch_size", 64, micro_batches=2)
    with pytest.raises(ValueError, match=r"batch_size=36 must give each of 4 devices .* in 2 parts: .* multiple of 8"):
        devices.check_batch("batch_size", 36, micro_batches=2)


@pytest.mark.parametrize(
    ("name", "strategy", "accelerated", "wish", "expected"),
    [
        ("default", None, False, None, {"elementwise"}),
        ("default", None, False, False, set()),
        ("default", None, False, True, {"whole_step"}),
        ("default", None, True, None, {"whole_step"}),
        ("mirrored", object(), False, None, set()),
        ("mirrored", object(), True, None, {"gradients"}),
        ("mirrored", object(), True, False, set()),
        ("tpu", object(), True, None, set()),
    ],
)
def test_what_xla_compiles(name, strategy, accelerated, wish, expected):
    options = Distribution(name, strategy, accelerated=accelerated).compile_options(wish)
    assert {part for part, compiled in options.items() if compiled} == expected


def test_several_processes_of_jax_share_each_batch(monkeypatch):
    import jax

    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(processes, "join", lambda: None)
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["cpu:0", "cpu:1"])
    chosen = choose("auto")
    assert (chosen.name, chosen.workers, chosen.worker) == ("data_parallel", 2, 1)
    with pytest.raises(ValueError, match="one of 2: choose data_parallel or auto"):
        choose("default")


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({}, None),
        ({"COORDINATOR_ADDRESS": "h:1", "NUM_PROCESSES": "1", "PROCESS_ID": "0"}, None),
        ({"COORDINATOR_ADDRESS": "h:1", "NUM_PROCESSES": "2", "PROCESS_ID": "1"}, ("h:1", 2, 1, None)),
        ({"COORDINATOR_ADDRESS": "[::1]:80", "NUM_PROCESSES": "3", "PROCESS_ID": "0"}, ("[::1]:80", 3, 0, None)),
    ],
)
def test_the_place_among_the_processes_of_jax(environment, variables, place):
    for name, value in variables.items():
        environment.setenv(f"JAX_{name}", value)
    assert processes._place() == place


def test_slurm_says_the_place(environment):
    """By the variables that srun sets; the port follows from the job as in JAX's documentation."""
    job = {"JOB_ID": "4097", "STEP_NODELIST": "node[007-008]", "NTASKS": "2", "PROCID": "1", "LOCALID": "0"}
    for name, value in job.items():
        environment.setenv(f"SLURM_{name}", value)
    assert processes._place() == ("node007:61441", 2, 1, [0])
    environment.setenv("SLURM_NTASKS", "1")
    assert processes._place() is None


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"NUM_PROCESSES": "2"}, "JAX_COORDINATOR_ADDRESS, JAX_PROCESS_ID is missing"),
        ({"COORDINATOR_ADDRESS": "h:1"}, "nothing says how many processes"),
        ({"COORDINATOR_ADDRESS": "h:1", "NUM_PROCESSES": "2", "PROCESS_ID": "2"}, "JAX_PROCESS_ID=2"),
        ({"COORDINATOR_ADDRESS": "h:1", "NUM_PROCESSES": "two", "PROCESS_ID": "0"}, "JAX_NUM_PROCESSES=two"),
        ({"COORDINATOR_ADDRESS": "h", "NUM_PROCESSES": "2", "PROCESS_ID": "0"}, "must be HOST:PORT"),
    ],
)
def test_places_of_jax_that_cannot_be(environment, variables, message):
    for name, value in variables.items():
        environment.setenv(f"JAX_{name}", value)
    with pytest.raises(ValueError, match=message):
        processes._place()


def test_places_of_jax_are_not_for_tensorflow():
    with pytest.raises(ValueError, match="are for KERAS_BACKEND=jax"):
        processes.name_place("host:1", 2, 0)


@pytest.fixture
def environment(monkeypatch):
    for name in ("COORDINATOR_ADDRESS", "NUM_PROCESSES", "PROCESS_ID"):
        monkeypatch.delenv(f"JAX_{name}", raising=False)
    return monkeypatch


def test_a_part_of_numpy_batches():
    """The parts of all processes together are the batches."""
    data = np.arange(12).reshape(6, 2)

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, number):
            return data[4 * number : 4 * number + 4], data[4 * number : 4 * number + 4, 0]

    parts = [Distribution("data_parallel", replicas=2, workers=2, worker=worker).share(Batches()) for worker in (0, 1)]
    assert len(parts[0]) == 2
    for place in (0, 1):
        joined = np.concatenate([part[0][place] for part in parts])
        np.testing.assert_array_equal(joined, Batches()[0][place])


def test_devices_that_tensorflow_already_holds_are_told_of(caplog):
    """This process's CPU stands for the GPU; of TPUs there are none to hide."""
    tf.zeros(())
    distribution.hide_from_tensorflow("CPU", "TPU")
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith("TensorFlow was in use before training began and may hold memory of the CPU")
