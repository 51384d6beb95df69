"""How a run resumes: from its last checkpoint, if recipe and data are the same and all processes agree."""

import dataclasses
import json
import logging
import pathlib
import zlib

import keras
import numpy as np

from keras_mixer.sublayers import all_layers, seed_generators
from keras_mixer.training.devices.distribution import Distribution
from keras_mixer.training.loop.callbacks import Clock
from keras_mixer.training.loop.checkpoints import CheckpointStore, restore
from keras_mixer.training.loop.data import Datasets
from keras_mixer.training.loop.run_folder import refuse_another
from keras_mixer.training.recipe import Recipe

_log = logging.getLogger(__name__)


def find_start(model: keras.Model, store: CheckpointStore | None, datasets: Datasets) -> Clock:
    """Loads the newest checkpoint, if there is one, into the model and returns the state to resume from.

    Without a store the run starts from the beginning. All processes of a cluster must call this together. Raises
    ValueError if recipe, data or model of the checkpoint differ, or the processes found different checkpoints.
    """
    start, arrays = (Clock(), None) if store is None else _load(model, store, datasets)
    check_same_step(datasets.distribution, start.step)
    # Only now, because processes of the JAX backend assign variables together.
    if arrays is not None:
        restore(model, arrays)
    return start


def check_same_step(distribution: Distribution, step: int) -> None:
    """Raises ValueError unless all processes have found a checkpoint of the same step, or none (0)."""
    steps = distribution.of_each_process(step)
    if len(set(steps)) > 1:
        raise ValueError(
            f"The processes of a cluster must go on from the same step, but they found checkpoints of the steps "
            f"{', '.join(map(str, steps))}: give all of them the same command with an output folder on storage that "
            f"they share."
        )


def check_same_run(datasets: Datasets) -> None:
    """Raises ValueError unless all processes of a cluster have the same recipe, and as many images of the same classes.

    The folder of the data may differ. Without this check, the processes would wait for each other at different places,
    or fail inside a collective operation.
    """
    recipe, distribution = datasets.recipe, datasets.distribution
    data = dataclasses.replace(recipe.data, name="", data_dir=None)
    sizes = [source.num_examples for source in datasets.sources]
    fields = dataclasses.asdict(dataclasses.replace(recipe, name="", data=data))
    # Images first: some fields of the recipe are chosen by their number.
    parts = {"the images": (datasets.class_names, sizes), **fields}

    def differs(part) -> bool:
        number = zlib.crc32(json.dumps(part, sort_keys=True).encode()) >> 1
        return len(set(distribution.of_each_process(number))) > 1

    if differs(parts):
        raise ValueError(
            f"The processes of a cluster differ in {', '.join(filter(lambda name: differs(parts[name]), parts))}: give "
            f"all of them the same command and the same images."
        )


def _load(model: keras.Model, store: CheckpointStore, datasets: Datasets) -> tuple[Clock, dict[str, np.ndarray] | None]:
    """Returns the state of the run at its newest checkpoint, and the arrays to restore, if there is one."""

    def fits(step: int, notes: dict) -> bool:
        """Returns whether this run would have reached the same weights, if it differs only in its length."""
        before, now = Recipe.from_json(notes["recipe"]).schedule, datasets.recipe.schedule
        starts = [start for start in map(datasets.cooldown_start, (before, now)) if start is not None]
        return before == now or len(starts) < 2 or step <= min(starts)

    found = store.load_newest(fits)
    if found is None and store.steps():
        raise ValueError(
            f"The run in {store.folder.parent} has begun its cooldown, and no earlier checkpoint is left: keep its "
            f"length, or start again with restart (--restart)."
        )
    if found is None:
        return Clock(), None
    step, arrays, notes = found
    refuse_another(store.path(step), notes["recipe"], datasets.recipe)
    if notes["data"] != datasets.fingerprint:
        raise ValueError(
            f"The run in {store.folder.parent} began with other data: {notes['data']}. Now the data is "
            f"{datasets.fingerprint}. To train on from its model, such as with another class: --weights RUN --output "
            f"NEW. To start again: restart (--restart)."
        )
    _warn_of_other_parts(store.folder.parent, model, notes, datasets)
    cut_short = step % datasets.period != 0
    return Clock(step, notes["seconds"], notes["rows"], arrays if cut_short else {}), arrays


def _warn_of_other_parts(folder: pathlib.Path, model: keras.Model, notes: dict, datasets: Datasets) -> None:
    """Warns if batches are now read or divided differently and this changes the data or the work of a layer."""
    if notes["processes"] != datasets.distribution.workers and datasets.read_in_order:
        _log.warning(
            "The run in %s was on %d processes and goes on with %d. Each now reads another part of %s than before: in "
            "this epoch some images come again and some are missed.",
            folder,
            notes["processes"],
            datasets.distribution.workers,
            datasets.recipe.data.name,
        )
    now = (datasets.distribution.drawing_replicas, datasets.recipe.execution.micro_batches)
    before = (notes["replicas"], Recipe.from_json(notes["recipe"]).execution.micro_batches)
    changes = []
    if seed_generators(model):
        changes.append("stochastic depth and dropout drop other samples and units than before")
    if any(isinstance(layer, keras.layers.BatchNormalization) for layer in all_layers(model)):
        changes.append("batch normalisation takes its statistics over parts of another size")
    if changes and before != now:
        _log.warning(
            "The run in %s was on %d replicas with %d micro-batches and goes on with %d and %d: from here on, %s.",
            folder,
            *before,
            *now,
            "; ".join(changes),
        )
