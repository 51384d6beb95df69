"""How many images a model classifies per second, and how much of the machine that uses (section 3 of the paper)."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Sequence

import keras
import numpy as np

from keras_mixer.cores import usable_cores
from keras_mixer.evaluation.compilation import worth_compiling
from keras_mixer.evaluation.memory import available_memory

BATCH_SIZES = tuple(2**exponent for exponent in range(5, 14))  # 32 to 8192
MATMUL_SIZES = (1024, 2048, 4096)


@dataclasses.dataclass(frozen=True)
class Throughput:
    """Speed of a model at each batch size that fits.

    Attributes:
        images_per_second: By batch size, of the fastest of several calls.
        cores: CPU cores that the model ran on; 1 for an accelerator, of which one computes however many there are.
    """

    images_per_second: dict[int, float]
    cores: int

    @property
    def best_batch_size(self) -> int:
        """The batch size of the highest throughput."""
        return max(self.images_per_second, key=self.images_per_second.__getitem__)

    @property
    def best(self) -> float:
        """The highest throughput, images per second."""
        return self.images_per_second[self.best_batch_size]

    @property
    def best_per_core(self) -> float:
        """The highest throughput, images per second and core: what the paper reports."""
        return self.best / self.cores


def measure_throughput(
    model: keras.Model,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    *,
    repetitions: int = 3,
    max_seconds: float = 30.0,
    jit_compile: bool | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Throughput:
    """Times a model on random images at rising batch sizes, and stops before one that would not fit.

    A batch fits if memory holds it: an accelerator says so itself; on a CPU it is estimated from the largest table
    between two layers. It must also be done in `max_seconds` by the speed of the one before.

    Args:
        model: Maps images of a static size to scores.
        batch_sizes: Rising numbers of images.
        repetitions: Timed calls at each size, after one to warm up.
        max_seconds: Longest acceptable call.
        jit_compile: Whether XLA compiles the model; None for yes on an accelerator and no on a CPU.
        clock: Returns seconds.

    Returns:
        The throughput at each size that fits.

    Raises:
        ValueError: If not even the smallest batch fits.
    """
    import tensorflow as tf

    timed = keras.Model(model.inputs, model.outputs)  # not the caller's, whose settings stay
    timed.jit_compile = worth_compiling() if jit_compile is None else jit_compile
    shape = model.input_shape[1:]
    on_cpu = _computing_device() == "CPU"
    images = np.random.default_rng(0).uniform(-1, 1, size=(max(1, min(batch_sizes)), *shape)).astype("float32")
    rates: dict[int, float] = {}
    for size in batch_sizes:
        if rates and size / list(rates.values())[-1] > max_seconds:
            break
        if on_cpu and size * _largest_table(model) > available_memory():
            break
        batch = tf.constant(np.resize(images, (size, *shape)))
        try:
            rates[size] = size / _fastest(functools.partial(timed.predict_on_batch, batch), repetitions, clock)
        except (MemoryError, tf.errors.ResourceExhaustedError):
            break
    if not rates:
        raise ValueError(f"Not even a batch of {batch_sizes[0]} images fits: give smaller batch sizes.")
    return Throughput(rates, usable_cores() if on_cpu else 1)


def matmul_peak(sizes: Iterable[int] = MATMUL_SIZES, dtype: str = "float32", repetitions: int = 5) -> float:
    """Measures the machine's fastest square matrix product.

    Returns:
        Multiply-adds per second, of the fastest call at the best size.
    """
    import tensorflow as tf

    def rate(size: int) -> float:
        matrix = tf.random.stateless_normal((size, size), seed=(0, size), dtype=dtype)
        product = tf.function(tf.linalg.matmul)
        return size**3 / _fastest(lambda: product(matrix, matrix)[0, 0].numpy(), repetitions, time.perf_counter)

    return max(map(rate, sizes))


def framework_flops(model: keras.Model) -> int:
    """Counts the floating-point operations for one image as TensorFlow's profiler does.

    Returns:
        Operations; a multiply-add of a matrix product counts as 2, biases and some element-wise operations as 1.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    spec = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32)
    frozen = convert_variables_to_constants_v2(
        tf.function(lambda images: model(images, training=False)).get_concrete_function(spec)
    )
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    log = tf.get_logger()
    level = log.level
    try:
        log.setLevel("ERROR")  # the profiler warns of what TensorFlow itself has deprecated
        return tf.compat.v1.profiler.profile(frozen.graph, options=options).total_float_ops
    finally:
        log.setLevel(level)


def growth_exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Fits `cost = constant * size^exponent` by least squares on logarithms.

    Returns:
        The exponent: 1 where the cost grows linearly.

    Raises:
        ValueError: If there are fewer than two different sizes, or a value is not positive.
    """
    if len(set(sizes)) < 2 or min(*sizes, *costs) <= 0:
        raise ValueError("An exponent needs positive costs at two sizes or more.")
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def _fastest(call: Callable[[], object], repetitions: int, clock: Callable[[], float]) -> float:
    call()  # traces, and fills caches
    times = []
    for _ in range(repetitions):
        start = clock()
        call()
        times.append(clock() - start)
    return min(times)


def _computing_device() -> str:
    """The type of the device that TensorFlow gives a model's work to unless told otherwise: CPU, GPU or TPU."""
    import tensorflow as tf

    one = tf.ones((1, 1))
    return tf.DeviceSpec.from_string(tf.linalg.matmul(one, one).device).device_type


def _largest_table(model: keras.Model) -> int:
    """Bytes for one image: the largest output of a layer, eight times for what a block holds inside."""
    shapes = [layer.output.shape for layer in model.layers if hasattr(layer.output, "shape")]
    return 8 * 4 * max(int(np.prod([side or 1 for side in shape[1:]])) for shape in shapes)
