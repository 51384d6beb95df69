"""Predictions on a Ray cluster. Each worker loads the model once, takes shards, and writes their parts itself."""

import contextlib
import dataclasses
import logging
import os
import pickle
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence

from keras_mixer.extras import installed, require
from keras_mixer.prediction.classify import Job, Part, predict_to_store
from keras_mixer.prediction.shards import Shard, divided

_PARTS_PER_SHARD = 8  # at most; more parts mean fewer pauses of a worker's pipeline between shards
_SHARDS_PER_WORKER = 4  # so that workers finish at about the same time
_RETRIES = 3  # of a shard whose worker died; a shard that kills every worker ends the run after these
_RESTARTS = 100  # of a worker, because machines come and go; a worker that can never start ends the run after these


@dataclasses.dataclass(frozen=True)
class RayWorkers:
    """The workers of a cluster.

    Attributes:
        count: Largest number of workers; None for as many as fit when the run starts.
        cpus: CPUs of each worker, more than 0.
        gpus: GPUs of each worker; a fraction shares a GPU.
    """

    count: int | None = None
    cpus: float = 1
    gpus: float = 0


def predict_on_ray(
    job: Job, model: Mapping[str, bytes], shards: Sequence[Shard], workers: RayWorkers, *, address: str | None = None
) -> Iterator[Part]:
    """Classifies the images of shards on a Ray cluster.

    When a worker dies, Ray starts another and gives it the shard again, and the same parts are written once more. The
    workers need keras_mixer with its extra `ray`, and access to the images and the store.

    Args:
        job: The store, and how its rows are made.
        model: The model's files, as `packed` returns them.
        shards: The images.
        workers: Number and size of the workers.
        address: The cluster's address. None takes it from RAY_ADDRESS, or else starts a cluster on this machine. If the
            process is already connected to a cluster, that cluster is used.

    Yields:
        Each part, once it is written.

    Raises:
        ImportError: If Ray is not installed, or what the model needs is missing on a worker.
        ValueError: If no worker fits on a node, the model cannot be opened, or a parquet file is damaged.
        OSError: If the store cannot be written, or a parquet file cannot be read.
        ConnectionError: If there is no cluster at the address.
        RuntimeError: If the cluster gives up. Parts that were written are kept.
    """
    require("ray", extra="ray", purpose="Running on Ray")
    import ray
    import ray.data
    import ray.exceptions

    with _connected(ray, address or os.environ.get("RAY_ADDRESS")):
        count = _worker_count(ray.nodes(), workers)
        total = sum(len(shard.names) for shard in shards)
        share = -(-total // (count * _SHARDS_PER_WORKER * job.part_size))
        pieces = divided(shards, job.part_size * min(max(share, 1), _PARTS_PER_SHARD))
        # The caller shows progress and reports errors. Ray's own notices stay in its logs.
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        files = ray.put(dict(model))
        items = [{"shard": pickle.dumps(piece)} for piece in pieces]
        with warnings.catch_warnings():
            # This deprecated argument is the only way to set the number of retries and restarts.
            warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
            parts = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
                _Worker,
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(size=min(count, len(pieces))),
                fn_constructor_args=(job, files, workers.cpus),
                num_cpus=workers.cpus,
                num_gpus=workers.gpus or None,
                max_task_retries=_RETRIES,
                max_restarts=_RESTARTS,
            )
        try:
            for row in parts.iter_rows():
                result = pickle.loads(row["result"])
                if isinstance(result, Exception):
                    raise result
                yield result
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            if isinstance(error, ray.exceptions.RayActorError):
                cause = f"its workers died again and again, perhaps because memory ran out: {cause}"
            raise RuntimeError(
                f"The cluster gave up: {cause}. The parts that were written stay; run the same command again to go on."
            ) from error


class _Worker:
    """One process of the pool. Ray Data makes it once and calls it with one shard at a time."""

    def __init__(self, job: Job, files, cpus: float):
        import ray

        from keras_mixer.artefacts import open_classifier, unpacked

        threads = max(1, int(cpus))  # so that workers on one machine do not compete
        self._job, self._failure = job, None
        try:
            if installed("tensorflow"):
                _share_machine(threads)
            with tempfile.TemporaryDirectory() as folder:
                self._predictor, self._card = open_classifier(unpacked(ray.get(files), folder), threads=threads)
        except (OSError, ValueError, ImportError) as error:
            self._failure = error  # Ray would turn an error that is raised here into a traceback

    def __call__(self, batch):
        # Errors are returned like parts, because Ray changes the text of raised errors.
        try:
            if self._failure is not None:
                raise self._failure
            shards = [pickle.loads(shard) for shard in batch["shard"]]
            for part in predict_to_store(self._job, self._predictor, self._card, shards):
                yield {"result": [pickle.dumps(part)]}
        except (OSError, ValueError, ImportError) as error:
            yield {"result": [pickle.dumps(error)]}


def _share_machine(threads: int) -> None:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    for gpu in tf.config.list_physical_devices("GPU"):  # otherwise the first worker takes all memory of the GPU
        tf.config.experimental.set_memory_growth(gpu, True)


@contextlib.contextmanager
def _connected(ray, address: str | None) -> Iterator[None]:
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage reports unless the user asks for them
    options = {} if address else {"include_dashboard": False}
    ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **options)
    try:
        yield
    finally:
        ray.shutdown()


def _worker_count(nodes: Sequence[dict], workers: RayWorkers) -> int:
    """Returns how many workers fit on the current nodes. A worker cannot span two nodes."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    wanted = {kind: each for kind, each in {"CPU": workers.cpus, "GPU": workers.gpus}.items() if each}
    fits = sum(int(min(room.get(kind, 0) / each for kind, each in wanted.items())) for room in alive)
    if not fits:
        have = "; ".join(f"{room.get('CPU', 0):g} CPUs and {room.get('GPU', 0):g} GPUs" for room in alive)
        raise ValueError(
            f"No worker of {workers.cpus:g} CPUs and {workers.gpus:g} GPUs fits on a node of the cluster: {have}."
        )
    return min(workers.count or fits, fits)
