"""Measures the speed of classifiers: images per second and core (section 3 of the paper), latency, operations."""

import dataclasses
import functools
import logging
import os
import pathlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_mixer.artefacts import Predictor
from keras_mixer.artefacts.predictor import worth_compiling
from keras_mixer.cores import usable_cores
from keras_mixer.extras import require
from keras_mixer.shapes import positive_integer

if TYPE_CHECKING:
    import keras

_log = logging.getLogger(__name__)

BATCH_SIZES = tuple(2**exponent for exponent in range(5, 14))  # 32 to 8192
MATMUL_SIZES = (1024, 2048, 4096)


@dataclasses.dataclass(frozen=True)
class Throughput:
    """Speed of a model at each batch size that fits.

    Attributes:
        images_per_second: By batch size, the images per second of the fastest of several calls.
        cores: CPU cores that the model ran on; 1 on an accelerator, because only one accelerator computes.
    """

    images_per_second: dict[int, float]
    cores: int

    @property
    def best_batch_size(self) -> int:
        """The batch size of the highest throughput."""
        return max(self.images_per_second, key=self.images_per_second.__getitem__)

    @property
    def best(self) -> float:
        """The highest throughput, in images per second."""
        return self.images_per_second[self.best_batch_size]

    @property
    def best_per_core(self) -> float:
        """The highest throughput, in images per second and core, as the paper reports it."""
        return self.best / self.cores


def measure_throughput(
    model: "keras.Model",
    batch_sizes: Sequence[int] = BATCH_SIZES,
    *,
    repetitions: int = 3,
    max_seconds: float = 30.0,
    jit_compile: bool | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Throughput:
    """Times a model on random images at rising batch sizes, and stops before the first size that does not fit.

    A batch fits if there is enough memory, and if it would take less than `max_seconds` at the speed of the previous
    batch size. An accelerator reports that its memory is full. On a CPU, the memory of a batch is estimated from the
    largest output of a layer.

    Args:
        model: Maps images of a static size to scores.
        batch_sizes: Rising numbers of images.
        repetitions: Timed calls at each size, after one call to warm up.
        max_seconds: Longest acceptable call.
        jit_compile: Whether XLA compiles the model; None compiles it on an accelerator only.
        clock: Function that returns the time in seconds.

    Returns:
        The throughput at each size that fits.

    Raises:
        ValueError: If even the smallest batch does not fit.
        ImportError: If TensorFlow is not installed.

    Example:
        >>> model = keras_mixer.MixerS32(weights=None)
        >>> keras_mixer.evaluation.measure_throughput(model, batch_sizes=[32, 64]).best_per_core
    """
    require("tensorflow", extra="tensorflow", purpose="Measuring throughput")
    import keras
    import tensorflow as tf

    timed = keras.Model(model.inputs, model.outputs)  # does not change the caller's model
    timed.jit_compile = worth_compiling() if jit_compile is None else jit_compile
    on_cpu = _computing_device() == "CPU"

    def call(images: np.ndarray) -> Callable[[], object]:
        if on_cpu and len(images) * _largest_array(model) > available_memory():
            raise MemoryError
        return functools.partial(timed.predict_on_batch, tf.constant(images))

    full = (MemoryError, tf.errors.ResourceExhaustedError)
    rates = _rates(call, model.input_shape[1:], batch_sizes, repetitions, max_seconds, full, clock)
    return Throughput(rates, usable_cores() if on_cpu else 1)


def measure_predictor(
    predictor: Predictor,
    input_shape: Sequence[int],
    batch_sizes: Sequence[int] = BATCH_SIZES,
    *,
    repetitions: int = 3,
    max_seconds: float = 30.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Throughput:
    """Times a classifier of any engine or format on random images at rising batch sizes.

    Args:
        predictor: The classifier.
        input_shape: Height, width and channels of its images.
        batch_sizes: Rising numbers of images.
        repetitions: Timed calls at each size, after one call to warm up.
        max_seconds: Longest acceptable call. The first size that would take longer is left out.
        clock: Function that returns the time in seconds.

    Returns:
        The throughput at each size, up to the first that fails.

    Raises:
        ValueError: If even the smallest batch does not fit. Other errors of the smallest batch are raised too.

    Example:
        >>> predictor = keras_mixer.engines.open_engine("saved_models/digits/model.tflite")
        >>> keras_mixer.evaluation.measure_predictor(predictor, (8, 8, 1), batch_sizes=[32, 64]).best
    """

    def call(images: np.ndarray) -> Callable[[], object]:
        return functools.partial(predictor.scores, images)

    rates = _rates(call, input_shape, batch_sizes, repetitions, max_seconds, (MemoryError,), clock)
    return Throughput(rates, 1 if predictor.accelerated else usable_cores())


def _rates(call, shape, batch_sizes, repetitions, max_seconds, full, clock) -> dict[int, float]:
    """Returns the images per second at rising batch sizes, up to the first that is too slow or raises an error."""
    batch_sizes = [positive_integer("batch_sizes", size) for size in batch_sizes]
    images = np.random.default_rng(0).uniform(-1, 1, size=(min(batch_sizes), *shape)).astype("float32")
    rates: dict[int, float] = {}
    for size in batch_sizes:
        if rates and size / list(rates.values())[-1] > max_seconds:
            break
        try:
            rates[size] = size / fastest(call(np.resize(images, (size, *shape))), repetitions, clock)
        except Exception as error:  # each framework has its own errors for a full memory
            if rates:
                _log.info("A batch of %d images does not fit: %r", size, error)
                break
            if isinstance(error, full):
                raise ValueError(f"Even a batch of {size} images does not fit: give smaller batch sizes.") from error
            raise
    return rates


@dataclasses.dataclass(frozen=True)
class Latency:
    """Time of one classifier at one batch size: the median over repetitions.

    Attributes:
        milliseconds: Time of one call.
        images_per_second: Rate of repeated calls.
        batch_size: Images of one call.
    """

    milliseconds: float
    images_per_second: float
    batch_size: int


def measure_latency(
    predictors: Mapping[str, Predictor], images: np.ndarray, *, repetitions: int = 10
) -> dict[str, Latency]:
    """Times each classifier on `images`. Calls alternate between classifiers, so that a busy machine slows all alike.

    Args:
        predictors: Classifiers by name.
        images: Preprocessed images `(batch_size, height, width, channels)`.
        repetitions: Timed calls of each classifier, after one call to warm up.

    Returns:
        The median times by name.
    """
    repetitions = positive_integer("repetitions", repetitions)
    times: dict[str, list[float]] = {name: [] for name in predictors}
    for predictor in predictors.values():
        predictor.scores(images)
    for _ in range(repetitions):
        for name, predictor in predictors.items():
            start = time.perf_counter()
            predictor.scores(images)
            times[name].append(time.perf_counter() - start)
    medians = {name: float(np.median(values)) for name, values in times.items()}
    return {name: Latency(1e3 * median, len(images) / median, len(images)) for name, median in medians.items()}


def matmul_peak(sizes: Iterable[int] = MATMUL_SIZES, dtype: str = "float32", repetitions: int = 5) -> float:
    """Measures the machine's fastest square matrix product.

    Returns:
        Multiply-adds per second of the fastest call at the best size.

    Raises:
        ImportError: If TensorFlow is not installed.
    """
    require("tensorflow", extra="tensorflow", purpose="Measuring matrix products")
    import tensorflow as tf

    def rate(size: int) -> float:
        matrix = tf.random.stateless_normal((size, size), seed=(0, size), dtype=dtype)
        product = tf.function(tf.linalg.matmul)
        return size**3 / fastest(lambda: product(matrix, matrix)[0, 0].numpy(), repetitions)

    return max(map(rate, sizes))


def framework_flops(model: "keras.Model") -> int:
    """Counts the floating-point operations for one image as TensorFlow's profiler does.

    Returns:
        The number of operations. A multiply-add counts as 2, and biases and some element-wise operations count as 1.

    Raises:
        ImportError: If TensorFlow is not installed.
    """
    require("tensorflow", extra="tensorflow", purpose="Counting operations")
    import tensorflow as tf

    spec = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32)
    forward = tf.function(lambda images: model(images, training=False)).get_concrete_function(spec)
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    log = tf.get_logger()
    level = log.level
    try:
        log.setLevel("ERROR")  # TensorFlow's profiler calls functions that TensorFlow has deprecated
        return tf.compat.v1.profiler.profile(forward.graph, options=options).total_float_ops
    finally:
        log.setLevel(level)


def growth_exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Fits `cost = constant * size^exponent` by least squares on logarithms.

    Returns:
        The exponent, which is 1 for a cost that grows linearly.

    Raises:
        ValueError: If there are fewer than two different sizes, or a value is not positive.
    """
    if len(set(sizes)) < 2 or min(*sizes, *costs) <= 0:
        raise ValueError("An exponent needs positive costs at two sizes or more.")
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def fastest(
    call: Callable[[], object], repetitions: int, clock: Callable[[], float] = time.perf_counter, seconds: float = 0.0
) -> float:
    """Returns the seconds of the fastest of at least `repetitions` calls, which together take at least `seconds`."""
    positive_integer("repetitions", repetitions)
    call()  # traces, and fills caches
    times: list[float] = []
    while len(times) < repetitions or sum(times) < seconds:
        start = clock()
        call()
        times.append(clock() - start)
    return min(times)


def _computing_device() -> str:
    """Returns the type of the device on which TensorFlow runs a model by default: CPU, GPU or TPU."""
    import tensorflow as tf

    one = tf.ones((1, 1))
    return tf.DeviceSpec.from_string(tf.linalg.matmul(one, one).device).device_type


def _largest_array(model: "keras.Model") -> int:
    """Estimates the bytes for one image as eight times the largest layer output, because blocks hold more inside."""
    shapes = [layer.output.shape for layer in model.layers if hasattr(layer.output, "shape")]
    return 8 * 4 * max(int(np.prod([side or 1 for side in shape[1:]])) for shape in shapes)


def available_memory(root: str | os.PathLike = "/") -> float:
    """Returns the bytes of memory available without swapping, within the limits of this process's control groups."""
    import psutil

    return min(float(psutil.virtual_memory().available), *_left_by_control_groups(pathlib.Path(root)))


def _left_by_control_groups(root: pathlib.Path) -> Iterator[float]:
    """Yields the bytes left by each control group (cgroup version 2) of this process, from its own group upwards."""
    yield float("inf")
    own = root / "proc/self/cgroup"
    lines = own.read_text(encoding="utf-8").splitlines() if own.is_file() else []
    inner = pathlib.PurePath(next((line[3:].lstrip("/") for line in lines if line.startswith("0::")), ""))
    # In a container, the path may be that of the host. In that case only the mount point itself exists.
    for group in (root / "sys/fs/cgroup" / path for path in (inner, *inner.parents)):
        try:
            limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        except (OSError, ValueError):  # there is no such group, or its limit is "max"
            continue
        statistics = group / "memory.stat"
        cache = re.search(
            r"^inactive_file (\d+)$", statistics.read_text() if statistics.is_file() else "", re.MULTILINE
        )
        yield float(limit - used + (int(cache[1]) if cache else 0))  # the page cache counts as free
