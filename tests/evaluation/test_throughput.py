import os

import keras
import numpy as np
import pytest

from keras_mixer.cores import usable_cores
from keras_mixer.evaluation import Predictor, measure_latency, throughput
from keras_mixer.evaluation.throughput import available_memory


def dense_model(width=32, units=64):
    images = keras.Input((width,))
    return keras.Model(images, keras.layers.Dense(units, use_bias=False)(images))


def test_the_best_batch_size_is_the_one_with_most_images_per_second():
    result = throughput.Throughput({32: 100.0, 64: 150.0, 128: 140.0}, cores=2)
    assert (result.best_batch_size, result.best, result.best_per_core) == (64, 150.0, 75.0)


def test_rates_are_batches_by_the_fastest_call():
    """A clock that says 4, 2 and 8 seconds for the timed calls of each size."""
    ticks = iter(np.cumsum([0, 4, 1, 2, 1, 8, 1, 4, 1, 2, 1, 8]).tolist())
    result = throughput.measure_throughput(dense_model(), [3, 6], repetitions=3, clock=lambda: next(ticks))
    assert result.images_per_second == {3: 1.5, 6: 3.0}


def test_stops_before_a_call_that_takes_too_long():
    ticks = iter(range(100))
    result = throughput.measure_throughput(
        dense_model(), [2, 4, 8], repetitions=1, max_seconds=1.5, clock=lambda: next(ticks)
    )
    assert list(result.images_per_second) == [2]  # 2 images in a second: 4 would take 2 seconds


def test_stops_before_a_batch_that_does_not_fit(monkeypatch):
    monkeypatch.setattr(throughput, "available_memory", lambda: 10 * throughput._largest_array(dense_model()))
    assert list(throughput.measure_throughput(dense_model(), [4, 8, 16]).images_per_second) == [4, 8]
    with pytest.raises(ValueError, match="Even a batch of 16 images does not fit"):
        throughput.measure_throughput(dense_model(), [16, 32])


@pytest.mark.parametrize(("accelerated", "cores"), [(False, usable_cores()), (True, 1)])
def test_an_error_of_a_larger_batch_ends_the_measurement(accelerated, cores):
    def scores(images):
        if len(images) > 4:
            raise RuntimeError("RESOURCE_EXHAUSTED")
        return images

    predictor = Predictor("any", scores, accelerated=accelerated)
    result = throughput.measure_predictor(predictor, (2, 2, 1), [2, 4, 8, 16])
    assert list(result.images_per_second) == [2, 4]
    assert result.cores == cores
    with pytest.raises(RuntimeError, match="RESOURCE_EXHAUSTED"):
        throughput.measure_predictor(predictor, (2, 2, 1), [8, 16])


def test_an_accelerator_counts_as_one_and_looks_after_its_own_memory(monkeypatch):
    monkeypatch.setattr(throughput, "available_memory", lambda: 0)
    monkeypatch.setattr(throughput, "_computing_device", lambda: "GPU")
    result = throughput.measure_throughput(dense_model(), [4, 8], repetitions=1)
    assert list(result.images_per_second) == [4, 8]
    assert result.cores == 1
    assert result.best_per_core == result.best


def test_without_an_accelerator_all_cores_of_the_process_compute(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # as on macOS and Windows
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert throughput._computing_device() == "CPU"
    result = throughput.measure_throughput(dense_model(), [2], repetitions=1)
    assert result.cores == 12
    assert result.best_per_core == result.best / 12


def test_the_framework_counts_twice_the_multiply_adds():
    assert throughput.framework_flops(dense_model(32, 64)) == 2 * 32 * 64


def test_the_peak_is_of_the_fastest_size(monkeypatch):
    """Calls of 1 second for every size: the largest product does the most in it."""
    monkeypatch.setattr(throughput, "fastest", lambda call, repetitions: call() * 0 + 1.0)
    assert throughput.matmul_peak([16, 64, 32]) == 64**3


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_exponent_of_a_power_law(exponent):
    sizes = [4, 16, 64, 256]
    assert throughput.growth_exponent(sizes, [3.0 * size**exponent for size in sizes]) == pytest.approx(exponent)


def test_numbers_that_are_not_integers():
    predictor = Predictor("any", lambda images: images.reshape(len(images), -1))
    for sizes, repetitions, name in (([2.5], 1, "batch_sizes"), ([0], 1, "batch_sizes"), ([2], 0, "repetitions")):
        with pytest.raises(ValueError, match=f"`{name}` must be a positive integer"):
            throughput.measure_predictor(predictor, (2, 2, 1), sizes, repetitions=repetitions)


def test_an_exponent_needs_two_sizes():
    with pytest.raises(ValueError, match="two sizes or more"):
        throughput.growth_exponent([4, 4], [1.0, 1.0])


def test_each_classifier_is_called_in_turn_after_warming_up():
    calls = []

    def predictor(name):
        return Predictor("fixed", lambda images: calls.append((name, len(images))))

    found = measure_latency({"a": predictor("a"), "b": predictor("b")}, np.zeros((4, 2, 2, 1)), repetitions=3)
    assert calls == [("a", 4), ("b", 4)] * 4
    for latency in found.values():
        assert latency.batch_size == 4
        assert latency.images_per_second == 4 / (latency.milliseconds / 1e3)


def host(folder, cgroup, **files):
    """A folder that looks like the root of a host."""
    for path, text in {"proc/self/cgroup": cgroup, **files}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


@pytest.mark.parametrize("group", ["/", "/pod", "/pod/container", "/of/the/host"])
def test_a_control_group_leaves_its_limit_less_what_is_used_but_for_its_cache(tmp_path, group):
    """Wherever in the hierarchy the process is, and where a container sees a path of the host's."""
    files = {"memory.max": "3000000\n", "memory.current": "2500000\n", "memory.stat": "anon 1\ninactive_file 2000000\n"}
    limits = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    inner = {"sys/fs/cgroup/pod/memory.max": "max\n", "sys/fs/cgroup/pod/memory.current": "7\n"}
    assert available_memory(host(tmp_path, f"0::{group}\n", **limits, **inner)) == 2_500_000


def test_the_tightest_limit_counts(tmp_path):
    files = {}
    for path, limit in {"": 5_000_000, "/pod": 900_000, "/pod/container": 4_000_000}.items():
        files[f"sys/fs/cgroup{path}/memory.max"] = f"{limit}\n"
        files[f"sys/fs/cgroup{path}/memory.current"] = "100000\n"
    assert available_memory(host(tmp_path, "0::/pod/container\n", **files)) == 800_000


def test_without_control_groups_the_machine_counts(tmp_path):
    import psutil

    assert available_memory(tmp_path) == pytest.approx(psutil.virtual_memory().available, rel=0.5)


def test_this_host_has_some():
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 2**20 < available_memory() < whole
