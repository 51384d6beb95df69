"""How many workers a cluster takes, and a worker without TensorFlow; a whole run on one is in test_killed.py."""

import pickle
import sys
import types

import pytest

from keras_mixer.prediction.ray_engine import RayWorkers, _Worker, _worker_count

NODES = [
    {"Alive": True, "Resources": {"CPU": 3.0, "GPU": 1.0}},
    {"Alive": True, "Resources": {"CPU": 5.0}},
    {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
]


@pytest.mark.parametrize(
    ("workers", "expected"),
    [
        (RayWorkers(), 8),
        (RayWorkers(count=3), 3),
        (RayWorkers(count=100), 8),
        (RayWorkers(cpus=2), 3),  # one on the first node, two on the second
        (RayWorkers(gpus=1), 1),
        (RayWorkers(gpus=0.25), 3),
    ],
)
def test_workers_that_fit_on_the_living_nodes(workers, expected):
    assert _worker_count(NODES, workers) == expected


@pytest.mark.parametrize("workers", [RayWorkers(cpus=6), RayWorkers(gpus=2), RayWorkers(count=1, cpus=4, gpus=1)])
def test_what_fits_nowhere_is_said_with_what_there_is(workers):
    with pytest.raises(ValueError, match=r"fits on a node of the cluster: 3 CPUs and 1 GPUs; 5 CPUs and 0 GPUs\.$"):
        _worker_count(NODES, workers)


@pytest.mark.parametrize(
    ("file", "error", "message"),
    [
        ("saved_model.pb", ImportError, "saved_model needs tensorflow, which is not installed"),
        ("model.tflite", ValueError, r"model\.tflite cannot be opened as litert"),
    ],
)
def test_a_worker_without_tensorflow_reports_what_a_model_needs(monkeypatch, file, error, message):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.setitem(sys.modules, "ray", types.SimpleNamespace(get=lambda files: files))
    worker = _Worker(None, {file: b""}, cpus=1.0)
    (row,) = worker({"shard": []})
    with pytest.raises(error, match=message):
        raise pickle.loads(row["result"][0])
