"""Which devices a run uses: TPUs, several GPUs, several hosts, or whatever there is."""

import contextlib
import dataclasses
import functools
import logging
import os
from collections.abc import Iterator
from typing import Any

import keras

from keras_mixer.training.cluster import place_in_cluster

_log = logging.getLogger(__name__)

STRATEGIES = ("auto", "default", "mirrored", "multi_worker", "tpu", "data_parallel")


@dataclasses.dataclass(frozen=True)
class Distribution:
    """The devices of a run.

    Attributes:
        name: One of `STRATEGIES`, never "auto".
        strategy: The `tf.distribute` strategy, or None where Keras needs none.
        replicas: Devices that share a batch.
        workers: Processes that share a batch.
        worker: Index of this process; process 0 writes the run folder.
        accelerated: Whether the devices are GPUs or TPUs.
    """

    name: str
    strategy: Any = None
    replicas: int = 1
    workers: int = 1
    worker: int = 0
    accelerated: bool = False

    @property
    def drawing_replicas(self) -> int:
        """Replicas that each draw masks of their own; on the JAX backend the devices share one draw."""
        return 1 if self.strategy is None else self.replicas

    def scope(self) -> contextlib.AbstractContextManager:
        """The context in which models, optimizers and metrics must be made."""
        return contextlib.nullcontext() if self.strategy is None else self.strategy.scope()

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """The context of a whole run: on the JAX backend it sets the distribution and unsets it at the end."""
        if self.name != "data_parallel":
            yield
            return
        before = keras.distribution.distribution()
        devices = keras.distribution.list_devices()
        # tf.data batches hold the whole global batch: one process feeds all devices.
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False))
        try:
            yield
        finally:
            keras.distribution.set_distribution(before)

    def share(self, batches):
        """Returns a dataset of this process's parts of global batches, for `distribute`."""
        if self.workers == 1:
            return batches

        def part(*batch):
            local = batch[0].shape[0] // self.workers
            return tuple(value[self.worker * local : (self.worker + 1) * local] for value in batch)

        return batches.map(part)

    def distribute(self, batches):
        """Prepares this process's batches for `fit` and `evaluate`.

        Keras hands datasets to the strategy, which would take each process's batch for a global one and split it once
        more among all replicas; so in a cluster every process deals out its own.
        """
        if self.workers == 1:
            return batches
        per_replica = batches.element_spec[0].shape[0] * self.workers // self.replicas
        return self.strategy.distribute_datasets_from_function(lambda _: batches.rebatch(per_replica))

    def anywhere(self, here: bool) -> bool:
        """Whether `here` is true in any process of a cluster; all of them must ask at the same step."""
        if self.workers == 1:
            return here
        import tensorflow as tf

        return bool(self._total(tf.constant(here, tf.float32)) > 0)

    def of_each_process(self, number: int) -> list[int]:
        """Returns the number that each process of a cluster gives, in their order; all of them must ask together."""
        if self.workers == 1:
            return [number]
        import tensorflow as tf

        numbers = [0] * self.workers
        numbers[self.worker] = number
        # The replicas of a process all give its number.
        total = self._total(tf.constant(numbers, tf.float64)) / (self.replicas // self.workers)
        return [round(value) for value in total.numpy().tolist()]

    @functools.cached_property
    def _total(self):
        """The sum over all replicas of a number, or of a vector, that is each process's own."""
        import tensorflow as tf

        def on_replica(value):
            here = tf.identity(value)  # on the replica's device, which is where it is summed
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
        """Chooses what XLA compiles.

        Args:
            jit_compile: The recipe's wish; None for the choice by device: GPUs gain, while on CPUs XLA is slower than
                the graph in bfloat16, all but elementwise operations.

        Returns:
            `whole_step`, for `compile(jit_compile=)`; `gradients`, for strategies whose step XLA cannot compile as a
            whole, since the sum over replicas stands in its middle; `elementwise`, for GELU and LayerNorm alone.
        """
        wanted = self.accelerated if jit_compile is None else jit_compile
        several = self.strategy is not None
        options = {
            "whole_step": wanted and not several,
            "gradients": wanted and several,
            "elementwise": jit_compile is None and not self.accelerated and not several,
        }
        if keras.backend.backend() == "jax":
            return {**dict.fromkeys(options, False), "whole_step": True}  # JAX without compilation is no option
        if self.name == "tpu":
            return dict.fromkeys(options, False)  # TPUStrategy compiles what it runs
        return options


def choose(strategy: str = "auto") -> Distribution:
    """Finds the devices and returns how to use them.

    On the TensorFlow backend "auto" takes a TPU if one answers, then the cluster of `TF_CONFIG`, then several GPUs,
    else the one device there is. On the JAX backend it takes all devices.

    Args:
        strategy: One of "auto", "default", "mirrored", "multi_worker", "tpu", "data_parallel" (JAX backend).

    Raises:
        ValueError: If the name is unknown, or does not go with the backend or the environment.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"execution.strategy must be one of {', '.join(STRATEGIES)}, but got {strategy!r}.")
    backend = keras.backend.backend()
    if backend == "jax":
        return _jax(strategy)
    if backend != "tensorflow":
        raise ValueError(
            f"Training runs on the TensorFlow and JAX backends of Keras, but KERAS_BACKEND is {backend!r}."
        )
    return _tensorflow(strategy)


def _jax(strategy: str) -> Distribution:
    import jax

    if strategy not in ("auto", "default", "data_parallel"):
        raise ValueError(
            f"The JAX backend has the strategies default and data_parallel, but got {strategy!r}. Set "
            f"KERAS_BACKEND=tensorflow for the others."
        )
    if jax.process_count() > 1:
        raise ValueError(
            f"On the JAX backend one process trains on all the devices that it sees, but this is one of "
            f"{jax.process_count()}. Start a single one without jax.distributed, or train with "
            f"KERAS_BACKEND=tensorflow and the strategy multi_worker or tpu."
        )
    hide_from_tensorflow("GPU", "TPU")
    devices = keras.distribution.list_devices()
    accelerated = jax.default_backend() != "cpu"
    if strategy == "default" or (strategy == "auto" and len(devices) == 1):
        return Distribution("default", accelerated=accelerated)
    return Distribution("data_parallel", replicas=len(devices), accelerated=accelerated)


def hide_from_tensorflow(*kinds: str) -> None:
    """Leaves the devices of these kinds to JAX: TensorFlow, which reads the data, would take a GPU's memory first."""
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


def _tensorflow(strategy: str) -> Distribution:
    import tensorflow as tf

    if strategy == "data_parallel":
        raise ValueError(
            "The strategy data_parallel is of the JAX backend: set KERAS_BACKEND=jax, or use mirrored, multi_worker "
            "or tpu."
        )
    if strategy == "tpu" or (strategy == "auto" and _has_tpu()):
        return _tpu()
    place = place_in_cluster() if strategy in ("auto", "multi_worker") else None
    if strategy == "multi_worker" and place is None:
        raise ValueError(
            "The strategy multi_worker reads the cluster from the environment variable TF_CONFIG, which is not set."
        )
    if place is not None and (strategy == "multi_worker" or place[0] > 1):
        workers, worker = place
        return _several("multi_worker", _made_once("MultiWorkerMirroredStrategy"), workers=workers, worker=worker)
    gpus = tf.config.list_logical_devices("GPU")
    if strategy == "mirrored" or (strategy == "auto" and len(gpus) > 1):
        devices = gpus or tf.config.list_logical_devices("CPU")
        return _several("mirrored", _made_once("MirroredStrategy", tuple(device.name for device in devices)))
    return Distribution("default", accelerated=bool(gpus))


@functools.cache
def _made_once(name: str, *arguments):
    """A `tf.distribute` strategy, one for the process.

    The sums over devices are numbered within a strategy, and TensorFlow remembers the shape behind each number: with a
    second strategy, another model's sums would meet those of the first and fail.
    """
    import tensorflow as tf

    return getattr(tf.distribute, name)(*arguments)


def _several(name: str, strategy, workers: int = 1, worker: int = 0) -> Distribution:
    import tensorflow as tf

    accelerated = bool(tf.config.list_logical_devices("GPU"))
    return Distribution(name, strategy, strategy.num_replicas_in_sync, workers, worker, accelerated)


def _has_tpu() -> bool:
    """Whether this machine holds a TPU or is told of one; asking the resolver elsewhere would wait for a network."""
    import tensorflow as tf

    named = any(name in os.environ for name in ("TPU_NAME", "COLAB_TPU_ADDR", "TPU_WORKER_HOSTNAMES"))
    return named or bool(tf.config.list_physical_devices("TPU"))


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
