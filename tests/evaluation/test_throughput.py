import os

import keras
import numpy as np
import pytest

from keras_mixer.evaluation import throughput


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
    with pytest.raises(ValueError, match="Not even a batch of 16 images fits"):
        throughput.measure_throughput(dense_model(), [16, 32])


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
    monkeypatch.setattr(throughput, "_fastest", lambda call, repetitions, clock: call() * 0 + 1.0)
    assert throughput.matmul_peak([16, 64, 32]) == 64**3


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_exponent_of_a_power_law(exponent):
    sizes = [4, 16, 64, 256]
    assert throughput.growth_exponent(sizes, [3.0 * size**exponent for size in sizes]) == pytest.approx(exponent)


def test_an_exponent_needs_two_sizes():
    with pytest.raises(ValueError, match="two sizes or more"):
        throughput.growth_exponent([4, 4], [1.0, 1.0])
