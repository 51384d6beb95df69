"""Choice of devices; `test_equality.py` trains on several of them."""

import json

import keras
import pytest
import tensorflow as tf
from tensorflow.python.distribute import multi_worker_util

from keras_mixer.training.devices import distribution
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


def test_several_processes_of_jax_are_refused(monkeypatch):
    import jax

    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for strategy in ("auto", "default", "data_parallel"):
        with pytest.raises(ValueError, match=r"one of 2\. Start a single one .* multi_worker"):
            choose(strategy)


def test_devices_that_tensorflow_already_holds_are_told_of(caplog):
    """This process's CPU stands for the GPU; of TPUs there are none to hide."""
    tf.zeros(())
    distribution.hide_from_tensorflow("CPU", "TPU")
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith("TensorFlow was in use before training began and may hold memory of the CPU")
