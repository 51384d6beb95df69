"""The cluster that `TF_CONFIG` describes: how many processes train together, and which of them this one is."""

import json
import os

# They share the training, in this order; TensorFlow counts the chief as worker 0.
_TRAINING = ("chief", "worker")


def place_in_cluster() -> tuple[int, int] | None:
    """Reads the environment variable `TF_CONFIG`.

    Returns:
        The number of processes that train together, chief and workers, and the index of this one; None where no
        cluster is described.

    Raises:
        ValueError: If the description is not JSON or incomplete, or gives this process another task than training.
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
            f"TF_CONFIG gives this process the task {kind!r}, but in a cluster the `chief` and `worker` processes "
            f"do all of training and evaluation: start no other."
        )
    if kind is None or not 0 <= index < sizes[kind]:
        raise ValueError(
            f"`task` in TF_CONFIG must say which process of `cluster` this is, such as {{'type': 'worker', 'index': "
            f"0}}, but it is {task!r} and the cluster has {sizes['chief']} chief and {sizes['worker']} workers."
        )
    before = sizes["chief"] if kind == "worker" else 0
    return sum(sizes.values()), before + index
