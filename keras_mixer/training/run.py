"""A training run: from a recipe to a folder with the model, its card and its history; killed and continued at will."""

import contextlib
import dataclasses
import logging
import os
import pathlib
from collections.abc import Iterator, Sequence

import keras

from keras_mixer.data import CorruptImages, save_model
from keras_mixer.training.callbacks import Clock, StopOnNaN
from keras_mixer.training.checkpointing import Checkpointing
from keras_mixer.training.checkpoints import CheckpointStore
from keras_mixer.training.datasets import Datasets, open_datasets
from keras_mixer.training.distribution import Distribution, choose
from keras_mixer.training.history import draw_curves
from keras_mixer.training.measuring import Evaluation, averaged_weights
from keras_mixer.training.network import classifier_of, dtype_policy, initial_network
from keras_mixer.training.recipe import Recipe
from keras_mixer.training.resuming import find_start, notes
from keras_mixer.training.run_folder import (
    CHECKPOINTS,
    CURVES_FILE,
    HISTORY_FILE,
    LOGS,
    RECIPE_FILE,
    History,
    claim,
    refuse_another,
    refuse_foreign_model,
    with_absolute_paths,
)
from keras_mixer.training.step import training_model

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """What a run came to.

    Attributes:
        folder: The run folder.
        steps: Updates made.
        accuracy: On the evaluation split, in [0, 1].
        loss: Cross-entropy there.
        parameters: Of the model.
        seconds: Spent training, earlier processes of the run included.
        learning_rate: The peak.
        history: One row per period, as in history.csv.
    """

    folder: pathlib.Path
    steps: int
    accuracy: float
    loss: float
    parameters: int
    seconds: float
    learning_rate: float
    history: tuple[dict, ...]


def train(
    recipe: Recipe,
    output: str | os.PathLike,
    *,
    restart: bool = False,
    progress: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> TrainingResult:
    """Trains by `recipe`, or goes on where an earlier call with the same recipe and folder stopped.

    The folder receives recipe.json, model.keras with its card model.json, history.csv, curves.png, TensorBoard logs
    and checkpoints. A run that was killed at any moment goes on from its last checkpoint, with the same batches,
    masks and rates as if nothing had happened. Ctrl-C and SIGTERM save a checkpoint first; in a cluster all processes
    do so together, within ten steps, or one where a step takes longer than a second. An error in one process of a
    cluster is told there alone: the others wait for its gradients until TensorFlow finds it gone, some seconds after it
    ended, and end with an `UnavailableError`. The last checkpoint stays.

    Args:
        recipe: What to do, as from `keras_mixer.training.recipes.get`.
        output: The run folder, made if need be.
        restart: Whether to delete what another or an earlier run left in the folder, once data and weights are open.
        progress: Whether to show a progress bar.
        callbacks: Callbacks of Keras to call beside the run's own. One that stops the training, as `EarlyStopping`
            does, ends the run there; the same call again goes on.

    Returns:
        Accuracy, time and history.

    Raises:
        ValueError: If the recipe and the data or devices do not go together, or the folder holds another recipe's run
            or a model of no run.
        CorruptImagesError: If more images cannot be read than the recipe allows.
        OSError: If the folder cannot be written.
        TrainingDivergedError: If the loss is no longer finite.
        KeyboardInterrupt: After a checkpoint, if interrupted.

    Example:
        >>> recipe = keras_mixer.training.recipes.get("digits")
        >>> keras_mixer.training.train(recipe, "runs/digits").accuracy > 0.97
        True
    """
    folder = pathlib.Path(output)
    distribution = choose(recipe.execution.strategy)
    distribution.check_batch("batch_size", recipe.batch_size, recipe.execution.micro_batches)
    recipe = with_absolute_paths(recipe)
    recipe_file = folder / RECIPE_FILE
    if recipe_file.exists() and not restart:
        refuse_another(folder, recipe_file.read_text(encoding="utf-8"), recipe)
    elif not restart:
        refuse_foreign_model(folder)
    datasets = open_datasets(recipe, distribution)
    with distribution.active(), dtype_policy(recipe.execution.precision):
        keras.utils.set_random_seed(recipe.seed)
        with distribution.scope():
            network = initial_network(recipe.model, len(datasets.class_names), recipe.name)
            model = training_model(network, recipe, datasets.total_steps, distribution)
        with datasets.corrupt.explained():
            rows, seconds = _fit(model, recipe, datasets, distribution, folder, restart, progress, callbacks)
        _report(datasets.corrupt)
        if distribution.worker == 0:
            with averaged_weights(model):
                finished = classifier_of(network)
            save_model(finished, datasets.card(recipe.name), folder)
            draw_curves(rows, folder / CURVES_FILE, recipe.name)
    return TrainingResult(
        folder=folder,
        steps=rows[-1]["step"],
        accuracy=rows[-1]["val_accuracy"],
        loss=rows[-1]["val_loss"],
        parameters=model.count_params(),
        seconds=seconds,
        learning_rate=recipe.optimizer.learning_rate,
        history=tuple(rows),
    )


def _fit(
    model: keras.Model,
    recipe: Recipe,
    datasets: Datasets,
    distribution: Distribution,
    folder: pathlib.Path,
    restart: bool,
    progress: bool,
    more_callbacks: Sequence[keras.callbacks.Callback],
) -> tuple[list[dict], float]:
    """Trains from the last checkpoint, if there is one, to the end; returns the history and the time spent."""
    store = CheckpointStore(folder / CHECKPOINTS, recipe.execution.checkpoints_kept)
    start = find_start(model, None if restart else store, datasets)
    clock = Clock(start.step, start.seconds)
    guard = StopOnNaN(clock, store, distribution)
    evaluation = Evaluation(
        datasets.evaluation(), datasets.evaluation_steps, clock, datasets.steps_per_epoch, start.rows, start.metrics
    )
    batches = datasets.training(start.step) if start.step < datasets.total_steps else None
    # What can be wrong with recipe, data and checkpoints has been tried: only now the folder changes.
    if distribution.worker == 0:
        claim(folder, recipe, restart)

    def notes_now() -> dict:
        return notes(datasets, start.rows, clock.seconds)

    def ends_period(step: int) -> bool:
        return step % datasets.period == 0 or step == datasets.total_steps

    with contextlib.ExitStack() as stack:
        saver = stack.enter_context(
            Checkpointing(
                store,
                recipe.execution.checkpoint_steps,
                recipe.execution.checkpoint_minutes,
                clock,
                guard,
                notes_now,
                ends_period,
                distribution,
            )
        )
        # The clock comes first, for the others read it; evaluation before those that keep what it measures.
        callbacks: list[keras.callbacks.Callback] = [clock, guard, evaluation]
        if distribution.worker == 0:
            callbacks.append(History(start.rows, folder / HISTORY_FILE))
            callbacks.append(keras.callbacks.TensorBoard(str(folder / LOGS), write_graph=False))
            if progress:
                from keras_mixer.training.progress import ProgressBar

                callbacks.append(stack.enter_context(ProgressBar(clock, datasets.total_steps, recipe.batch_size)))
        callbacks += [saver, *more_callbacks]
        for first, stop in segments(start.step, datasets.total_steps, datasets.period):
            length = min(stop - first, datasets.period)
            _set_steps_per_execution(model, recipe.execution.steps_per_execution, length)
            model.fit(
                datasets.training(first) if batches is None else batches,
                steps_per_epoch=length,
                initial_epoch=first // datasets.period,
                epochs=-(-stop // datasets.period),
                callbacks=callbacks,
                shuffle=False,  # the stream is shuffled
                verbose=0,
            )
            batches = None
            if model.stop_training:
                break
        saver.save()
    return start.rows, clock.seconds


def segments(step: int, total: int, period: int) -> Iterator[tuple[int, int]]:
    """Cuts the steps from `step` to `total` into calls of `fit` whose periods are of one length each.

    The rest of a period that was cut short comes first, whole periods follow, and what is left over comes last.

    Example:
        >>> list(segments(7, 34, 10))
        [(7, 10), (10, 30), (30, 34)]
    """
    while step < total:
        whole = total // period * period
        stop = whole if step % period == 0 and step < whole else min((step // period + 1) * period, total)
        yield step, stop
        step = stop


def _set_steps_per_execution(model: keras.Model, wanted: int, length: int) -> None:
    """Runs as many of the wanted steps per call as come out even."""
    steps = max(steps for steps in range(1, wanted + 1) if length % steps == 0)
    if model.steps_per_execution != steps:
        model.steps_per_execution = steps
        model.train_function = None  # `fit` makes it anew, once loss and metrics are built


def _report(corrupt: CorruptImages) -> None:
    """Says how many images the run did without, and which, the first three by name."""
    if corrupt.count:
        _log.warning("%s", corrupt.left_out())
