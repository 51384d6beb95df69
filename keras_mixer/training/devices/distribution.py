"""Chooses the devices of a run: a TPU, several GPUs, several hosts, or the only device."""

import contextlib
import dataclasses
import functools
import json
import logging
import os
from collections.abc import Iterator
from typing import Any

import keras

from keras_mixer.extras import installed
from keras_mixer.training.devices import processes

_log = logging.getLogger(__name__)

# By Keras backend.
STRATEGIES = {
    "tensorflow": ("auto", "default", "mirrored", "multi_worker", "tpu"),
    "jax": ("auto", "default", "data_parallel"),
}
# Settings of JAX that the environment may change. Keras fails with others, or other random numbers are drawn.
_JAX_SETTINGS = {
    "default_prng_impl": "threefry2x32",
    "threefry_partitionable": True,
    "legacy_prng_key": "allow",
    "numpy_rank_promotion": "allow",
    "numpy_dtype_promotion": "standard",
}
_TRAINING = ("chief", "worker")  # the tasks that train; TensorFlow counts the chief as worker 0


@contextlib.contextmanager
def default_settings() -> Iterator[None]:
    """Gives the JAX backend the settings that it has by default, for this thread and as long as the context lasts."""
    with contextlib.ExitStack() as stack:
        if keras.backend.backend() == "jax":
            import jax

            for name, value in _JAX_SETTINGS.items():
                stack.enter_context(getattr(jax, name)(value))
        yield


@dataclasses.dataclass(frozen=True)
class Distribution:
    """The devices of a run."""

    name: str  # one of `STRATEGIES`, never "auto"
    strategy: Any = None  # of `tf.distribute`, or None if Keras needs none
    replicas: int = 1  # devices that share a batch
    workers: int = 1  # processes that share a batch
    worker: int = 0  # index of this process; process 0 writes the run folder
    accelerated: bool = False  # whether the devices are GPUs or TPUs

    @property
    def drawing_replicas(self) -> int:
        """Number of replicas that draw their own masks. On the JAX backend all devices share one draw."""
        return 1 if self.strategy is None else self.replicas

    def scope(self) -> contextlib.AbstractContextManager:
        """Returns the context in which models, optimizers and metrics must be made."""
        return contextlib.nullcontext() if self.strategy is None else self.strategy.scope()

    def active(self) -> contextlib.AbstractContextManager:
        """Returns the context of a whole run, which sets the distribution of the JAX backend."""
        if self.name != "data_parallel":
            return contextlib.nullcontext()
        devices = keras.distribution.list_devices()  # those of all processes
        # Each process makes its own part of a batch, so Keras must not divide it.
        return keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False).scope()

    def watched(self) -> contextlib.AbstractContextManager:
        """Returns the context in which this process ends, with one line, if another one does."""
        # TensorFlow's runtime raises an error by itself.
        return processes.watched() if self.name == "data_parallel" else contextlib.nullcontext()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Returns the context in which this process can make a model that the others do not make."""
        whole = keras.distribution.distribution()
        keras.distribution.set_distribution(None)
        try:
            yield
        finally:
            keras.distribution.set_distribution(whole)

    def share(self, batches):
        """Takes this process's part of each global batch, for `distribute`."""
        if self.workers == 1:
            return batches
        if isinstance(batches, keras.utils.PyDataset):
            from keras_mixer.data.array_batches import PartOfBatches

            return PartOfBatches(batches, self.workers, self.worker)

        def part(*batch):
            local = batch[0].shape[0] // self.workers
            return tuple(value[self.worker * local : (self.worker + 1) * local] for value in batch)

        return batches.map(part)

    def distribute(self, batches):
        """Prepares this process's batches for `fit` and `evaluate`.

        The strategy would mistake each process's batch for a global one and divide it again among all replicas. In a
        cluster, each process therefore divides its own batch.
        """
        if self.workers == 1 or self.strategy is None:
            return batches
        per_replica = batches.element_spec[0].shape[0] * self.workers // self.replicas
        return self.strategy.distribute_datasets_from_function(lambda _: batches.rebatch(per_replica))

    def anywhere(self, here: bool) -> bool:
        """Returns whether `here` is true in any process of a cluster. All processes must call this at the same step."""
        return any(self.of_each_process(int(here)))

    def of_each_process(self, number: int) -> list[int]:
        """Returns the `number` of each process of a cluster, in order. All processes must call this together."""
        if self.workers == 1:
            return [number]
        if self.strategy is None:
            return processes.numbers_of_all(number)
        import tensorflow as tf

        numbers = [number if worker == self.worker else 0 for worker in range(self.workers)]
        # Each replica of a process adds the number of the process.
        total = self._total(tf.constant(numbers, tf.float64)) / (self.replicas // self.workers)
        return [round(value) for value in total.numpy().tolist()]

    @functools.cached_property
    def _total(self):
        """Returns a function that sums a vector over all replicas."""
        import tensorflow as tf

        def on_replica(value):
            here = tf.identity(value)  # on the device of the replica, where it is summed
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, here)

        @tf.function
        def total(value):
            return self.strategy.experimental_local_results(self.strategy.run(on_replica, (value,)))[0]

        return total

    def check_batch(self, name: str, batch_size: int, micro_batches: int = 1) -> None:
        """Raises ValueError if a batch does not give every device the same number of examples."""
        if batch_size % (self.replicas * micro_batches):
            parts = f" in {micro_batches} parts" if micro_batches > 1 else ""
            raise ValueError(
                f"{name}={batch_size} must give each of {self.replicas} devices the same number of examples{parts}: "
                f"choose a multiple of {self.replicas * micro_batches}."
            )

    def compile_options(self, jit_compile: bool | None) -> dict[str, bool]:
        """Returns whether XLA compiles the `whole_step`, its `gradients`, or GELU and LayerNorm (`elementwise`).

        `jit_compile` is the recipe's choice. None decides by device: XLA speeds up a whole step on GPUs, but only
        elementwise operations on CPUs. It cannot compile a sum over replicas in the middle of a step.
        """
        wanted = self.accelerated if jit_compile is None else jit_compile
        several = self.strategy is not None
        options = {
            "whole_step": wanted and not several,
            "gradients": wanted and several,
            "elementwise": jit_compile is None and not self.accelerated and not several,
        }
        if keras.backend.backend() == "jax":
            return {**dict.fromkeys(options, False), "whole_step": True}  # without compilation JAX is far too slow
        if self.name == "tpu":
            return dict.fromkeys(options, False)  # TPUStrategy compiles everything itself
        return options


def choose(strategy: str = "auto") -> Distribution:
    """Finds the devices and returns how to use them; `strategy` is a name in `STRATEGIES` for the current backend.

    On the TensorFlow backend, "auto" uses the first of these: a TPU that answers, the cluster of `TF_CONFIG`, several
    GPUs, the only device. On the JAX backend it uses all devices of all processes that `processes.join` finds.

    Raises:
        ValueError: If the backend has no such strategy, or the environment does not allow it.
    """
    backend = keras.backend.backend()
    if backend not in STRATEGIES:
        raise ValueError(
            f"Training runs on the TensorFlow and JAX backends of Keras, but KERAS_BACKEND is {backend!r}."
        )
    if strategy not in STRATEGIES[backend]:
        known = "; ".join(f"{', '.join(names)} with KERAS_BACKEND={name}" for name, names in STRATEGIES.items())
        raise ValueError(f"execution.strategy must be one of {known}; but got {strategy!r} with {backend}.")
    return _jax(strategy) if backend == "jax" else _tensorflow(strategy)


def _jax(strategy: str) -> Distribution:
    import jax

    if strategy != "default":
        processes.join()
    count = jax.process_count()
    if strategy == "default" and count > 1:
        raise ValueError(
            f"The strategy default uses one device, but this process is one of {count}: choose data_parallel or auto."
        )
    hide_from_tensorflow("GPU", "TPU")
    devices = keras.distribution.list_devices()
    accelerated = jax.default_backend() != "cpu"
    if strategy == "default" or (strategy == "auto" and len(devices) == 1):
        return Distribution("default", accelerated=accelerated)
    if len(devices) != count * jax.local_device_count():
        raise ValueError(
            f"Each of the {count} processes must have the same number of devices, but this one has "
            f"{jax.local_device_count()} of {len(devices)}."
        )
    place = {"workers": count, "worker": jax.process_index()}
    return Distribution("data_parallel", replicas=len(devices), **place, accelerated=accelerated)


def hide_from_tensorflow(*kinds: str) -> None:
    """Hides devices of these kinds from TensorFlow, such as GPUs whose memory JAX needs."""
    if not installed("tensorflow"):
        return
    import tensorflow as tf

    for kind in kinds:
        try:
            tf.config.set_visible_devices([], kind)
        except RuntimeError as error:
            _log.warning(
                "TensorFlow was in use before training began and may hold memory of the %s that JAX trains on (%s).",
                kind,
                error,
            )


def place_in_cluster() -> tuple[int, int] | None:
    """Returns the number of processes in the cluster of `TF_CONFIG` and the index of this one; None without a cluster.

    Raises ValueError if the text is not JSON, is incomplete, or gives this process another task than training.
    """
    text = os.environ.get("TF_CONFIG", "")
    try:
        config = json.loads(text or "{}")
        cluster, task = config.get("cluster") or {}, config.get("task") or {}
        sizes = {kind: len(cluster.get(kind, ())) for kind in _TRAINING}
        kind, index = task.get("type"), int(task.get("index", -1))
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"TF_CONFIG must be a JSON object with `cluster` and `task`, but it is {text!r}.") from error
    if not cluster:
        return None
    if kind is not None and kind not in _TRAINING:
        raise ValueError(
            f"TF_CONFIG gives this process the task {kind!r}, but the `chief` and `worker` processes do all of the "
            f"training and evaluation: start no others."
        )
    if kind is None or not 0 <= index < sizes[kind]:
        raise ValueError(
            f"`task` in TF_CONFIG must say which process of `cluster` this is, such as {{'type': 'worker', 'index': "
            f"0}}, but it is {task!r} and the cluster has {sizes['chief']} chief and {sizes['worker']} workers."
        )
    before = sizes["chief"] if kind == "worker" else 0
    return sum(sizes.values()), before + index


def _tensorflow(strategy: str) -> Distribution:
    import tensorflow as tf

    # Without these names in the environment, the resolver of TPUs would wait for a network.
    named = any(name in os.environ for name in ("TPU_NAME", "COLAB_TPU_ADDR", "TPU_WORKER_HOSTNAMES"))
    if strategy == "tpu" or (strategy == "auto" and (named or tf.config.list_physical_devices("TPU"))):
        return _tpu()
    place = place_in_cluster() if strategy in ("auto", "multi_worker") else None
    if strategy == "multi_worker" and place is None:
        raise ValueError(
            "The strategy multi_worker reads the cluster from the environment variable TF_CONFIG, which is not set."
        )
    if place is not None and (strategy == "multi_worker" or place[0] > 1):
        made = _made_once("MultiWorkerMirroredStrategy")  # joins the cluster, before the first look at the devices
        gpus = tf.config.list_logical_devices("GPU")
        return Distribution("multi_worker", made, made.num_replicas_in_sync, *place, accelerated=bool(gpus))
    gpus = tf.config.list_logical_devices("GPU")
    if strategy == "mirrored" or (strategy == "auto" and len(gpus) > 1):
        devices = gpus or tf.config.list_logical_devices("CPU")
        made = _made_once("MirroredStrategy", tuple(device.name for device in devices))
        return Distribution("mirrored", made, made.num_replicas_in_sync, accelerated=bool(gpus))
    return Distribution("default", accelerated=bool(gpus))


@functools.cache
def _made_once(name: str, *arguments):
    """Makes a `tf.distribute` strategy once per process."""
    import tensorflow as tf

    # A strategy numbers its sums over devices, and TensorFlow remembers the shape for each number. A second strategy
    # would use the same numbers for other shapes and fail.
    return getattr(tf.distribute, name)(*arguments)


def _tpu() -> Distribution:
    import tensorflow as tf

    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=os.environ.get("TPU_NAME", "local"))
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        strategy = tf.distribute.TPUStrategy(resolver)
    except (ValueError, KeyError, tf.errors.OpError) as error:
        reason = str(error).split("\n")[0].split(". ")[0]
        raise ValueError(
            f"No TPU answers: {reason}. On the TPU's own host TensorFlow needs `pip install 'keras_mixer[tpu]'`; or "
            f"train with KERAS_BACKEND=jax."
        ) from error
    return Distribution("tpu", strategy, strategy.num_replicas_in_sync, accelerated=True)
