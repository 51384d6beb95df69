"""Trains by a recipe and writes a folder with the model, its card and its history. A killed run can be resumed."""

import contextlib
import dataclasses
import json
import logging
import os
import pathlib
import re
from collections.abc import Iterator, Sequence

import keras

from keras_mixer.data import CorruptImagesError, save_model
from keras_mixer.extras import installed
from keras_mixer.files import held_alone, strict_json, written_whole
from keras_mixer.training.defaults import choose_splits
from keras_mixer.training.devices.distribution import Distribution, choose, default_settings
from keras_mixer.training.loop import run_folder
from keras_mixer.training.loop.callbacks import (
    Checkpointing,
    EarlyStopping,
    Evaluation,
    ProgressBar,
    StopOnNaN,
    TrainingDivergedError,
    best_row,
    is_over,
)
from keras_mixer.training.loop.checkpoints import CheckpointStore, restore
from keras_mixer.training.loop.data import Datasets, open_datasets
from keras_mixer.training.loop.resuming import check_same_run, check_same_step, find_start
from keras_mixer.training.loop.step import averaged_weights, evaluate, training_model
from keras_mixer.training.network import (
    classifier_of,
    dtype_policy,
    find_builder,
    freeze_body,
    initial_network,
    teacher_of,
)
from keras_mixer.training.recipe import DataSpec, Recipe, is_trained_model

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """The result of a run."""

    folder: pathlib.Path  # the run folder
    steps: int  # updates made
    accuracy: float  # on the evaluation split, in [0, 1]
    loss: float  # cross-entropy on the evaluation split
    parameters: int  # number of the model's parameters
    seconds: float  # time spent training, including earlier processes of the run
    learning_rate: float  # the peak
    history: tuple[dict, ...]  # one row per period, as in history.csv
    test_accuracy: float | None = None  # on the test split, in [0, 1]; None if there is none
    images: int = 0  # number of images of the evaluation split that accuracy and loss rest on
    test_images: int | None = None  # number of images that the test accuracy rests on


def train(
    recipe: Recipe,
    output: str | os.PathLike,
    *,
    restart: bool = False,
    progress: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> TrainingResult:
    """Trains by `recipe`, or resumes the run that an earlier call with the same recipe and folder began.

    The output folder receives recipe.json, model.keras with its card model.json, history.csv, curves.png (if matplotlib
    is installed), TensorBoard logs and checkpoints. If there is a test split, test.json is added. If the dataset is a
    folder, files.json.gz lists its images: an image that is removed later is left out without changing the order, and a
    new image is not used. At the end, result.json receives what this function returns. The same call on a run that has
    ended returns it at once.

    A killed run resumes from its last checkpoint with the same batches, dropout masks and learning rates. Ctrl-C and
    SIGTERM save a checkpoint first. In a cluster all processes do this together, within ten steps, or within one step
    if steps take longer than a second.

    An error in one process of a cluster is reported only there. Some seconds after that process has ended, the others
    end: on the TensorFlow backend with an `UnavailableError`, and on the JAX backend with one line and exit status 1,
    because they cannot wait for a result that never comes. The last checkpoint is kept.

    Args:
        recipe: The recipe, such as one from `keras_mixer.training.recipes.get`.
        output: The run folder, created if it does not exist.
        restart: Whether to delete what an earlier run left in the folder. This happens after data and weights are
            opened.
        progress: Whether to show a progress bar.
        callbacks: Further Keras callbacks. If one stops the training, such as `EarlyStopping`, the run ends there and
            another call resumes it.

    Raises:
        ValueError: If the recipe does not fit the data or the devices, or if the folder holds the run of another recipe
            or a model without a recipe.
        CorruptImagesError: If more images cannot be read than the recipe allows.
        OSError: If the folder cannot be written.
        TrainingDivergedError: If the loss is no longer finite.
        KeyboardInterrupt: If interrupted, after a checkpoint is saved.

    Example:
        >>> recipe = keras_mixer.training.recipes.get("digits")
        >>> keras_mixer.training.train(recipe, "runs/digits").accuracy > 0.97
        True
    """
    folder = pathlib.Path(os.path.expanduser(output))
    find_builder(recipe.model)  # reports a wrong argument before data is read
    distribution = choose(recipe.execution.strategy)
    with distribution.watched(), default_settings():
        result = _train(recipe, distribution, folder, restart, progress, callbacks)
        distribution.anywhere(False)  # all processes stay until the first has written everything
    return result


def _train(
    recipe: Recipe,
    distribution: Distribution,
    folder: pathlib.Path,
    restart: bool,
    progress: bool,
    callbacks: Sequence[keras.callbacks.Callback],
) -> TrainingResult:
    recipe = run_folder.with_absolute_paths(recipe)
    earlier = (None, None) if restart else (run_folder.read_listing(folder, recipe), run_folder.read_pipeline(folder))
    datasets = open_datasets(recipe, distribution, *earlier)
    check_same_run(datasets)
    recipe, test = datasets.recipe, None
    distribution.check_batch("batch_size", recipe.batch_size, recipe.execution.micro_batches)
    run_folder.check(folder, recipe, restart)
    ended = None if restart else _ended(datasets, folder)
    in_all_processes = all(distribution.of_each_process(int(ended is not None)))
    if ended is not None and in_all_processes:
        if distribution.worker == 0:
            _log.info("The run in %s has ended: there is nothing left to do.", folder)
        return ended
    if restart or not (folder / run_folder.RECIPE_FILE).exists():
        datasets.check()
    if distribution.worker == 0:
        _log.info("%s", datasets.plan())
    with distribution.active(), dtype_policy(recipe.execution.precision):
        keras.utils.set_random_seed(recipe.seed)
        try:
            with datasets.corrupt.explained():
                with distribution.scope():
                    network = initial_network(recipe, len(datasets.class_names))
                    counts = None if recipe.class_weights is None else datasets.class_counts
                    model = training_model(
                        network,
                        recipe,
                        datasets.total_steps,
                        distribution,
                        counts,
                        datasets.device_stream,
                        teacher_of(recipe, datasets.class_names),
                    )
                rows, seconds = _fit(model, datasets, folder, restart, progress, callbacks)
                if datasets.test_source is not None:
                    test = evaluate(model, *datasets.evaluation(datasets.test_source))
        except CorruptImagesError as error:
            raise datasets.all_unreadable(error) from error
        if datasets.corrupt.count:
            _log.warning("%s", datasets.corrupt.left_out())
        test_images = None if datasets.test_source is None else datasets.readable(datasets.test_source)
        # All processes take the average, but only the first makes a model of it.
        with averaged_weights(model), distribution.alone():
            finished = classifier_of(network) if distribution.worker == 0 else None
        if finished is not None:
            if recipe.model.frozen:
                freeze_body(finished, frozen=False)
            save_model(finished, datasets.card(recipe.name, folder), folder)
            if installed("matplotlib"):
                run_folder.draw_curves(rows, folder / run_folder.CURVES_FILE, recipe.name)
            if test is not None:
                scores = {"accuracy": test["accuracy"], "loss": test["cross_entropy"], "images": test_images}
                measured = {"split": recipe.data.test_split, **scores}
                (folder / run_folder.TEST_FILE).write_text(strict_json(measured) + "\n", encoding="utf-8")
    kept = rows[-1] if recipe.early_stopping is None else rows[best_row(rows)]
    result = TrainingResult(
        folder=folder,
        steps=rows[-1]["step"],
        accuracy=kept["val_accuracy"],
        loss=kept["val_loss"],
        parameters=model.count_params(),
        seconds=seconds,
        learning_rate=recipe.optimizer.learning_rate,
        history=tuple(rows),
        test_accuracy=None if test is None else test["accuracy"],
        images=datasets.readable(datasets.eval_source),
        test_images=test_images,
    )
    if distribution.worker == 0:
        stored = {**_made_by(datasets), "result": {**vars(result), "folder": None}}
        with written_whole(folder / run_folder.RESULT_FILE) as partial:
            partial.write_text(strict_json(stored) + "\n", encoding="utf-8")
    return result


def _ended(datasets: Datasets, folder: pathlib.Path) -> TrainingResult | None:
    """Returns the result of a run that has ended; None if something is left to do for this recipe and data."""
    try:
        stored = json.loads((folder / run_folder.RESULT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    made_by = _made_by(datasets)
    if any(stored.get(name) != value for name, value in made_by.items()) or not is_trained_model(str(folder)):
        return None
    rows = tuple(stored["result"]["history"])
    if rows[-1]["step"] < datasets.total_steps and not is_over(rows, datasets.recipe.early_stopping):
        return None  # a callback stopped it
    return TrainingResult(**{**stored["result"], "folder": folder, "history": rows})


def _made_by(datasets: Datasets) -> dict:
    return {"recipe": json.loads(datasets.recipe.to_json()), "data": datasets.fingerprint}


def _fit(
    model: keras.Model,
    datasets: Datasets,
    folder: pathlib.Path,
    restart: bool,
    progress: bool,
    more_callbacks: Sequence[keras.callbacks.Callback],
) -> tuple[list[dict], float]:
    """Trains to the end, from the last checkpoint if there is one. Returns the history and the seconds spent."""
    recipe, distribution, execution = datasets.recipe, datasets.distribution, datasets.recipe.execution
    open_until = datasets.cooldown_start(recipe.schedule)
    store = CheckpointStore(folder / run_folder.CHECKPOINTS, execution.checkpoints_kept, open_until)
    clock = find_start(model, None if restart else store, datasets)
    start, total = clock.step, datasets.total_steps
    if is_over(clock.rows, recipe.early_stopping):
        start = total  # an earlier process ended the run
    stop_on_nan, evaluation = StopOnNaN(clock, store, distribution), Evaluation(clock, datasets)
    batches = datasets.training(start) if start < total else None
    with contextlib.ExitStack() as stack:
        # The folder is changed only now, after recipe, data and checkpoints have proved to fit.
        if distribution.worker == 0:
            stack.enter_context(held_alone(folder))
            run_folder.claim(folder, recipe, restart, datasets.listing)
        saver = stack.enter_context(Checkpointing(stop_on_nan, datasets))
        # The order matters: later callbacks read the clock, and some keep what `evaluation` measures.
        callbacks: list[keras.callbacks.Callback] = [clock, stop_on_nan, evaluation]
        if distribution.worker == 0:
            write = keras.callbacks.LambdaCallback(
                on_epoch_end=lambda *_: run_folder.write_history(clock.rows, folder / run_folder.HISTORY_FILE)
            )
            callbacks.append(write)
            if installed("tensorflow"):  # Keras's callback writes by it
                callbacks.append(keras.callbacks.TensorBoard(str(folder / run_folder.LOGS), write_graph=False))
            if progress:
                callbacks.append(stack.enter_context(ProgressBar(clock, total, recipe.batch_size)))
        best = CheckpointStore(folder / run_folder.BEST, kept=1)
        if recipe.early_stopping is not None:
            callbacks.append(EarlyStopping(clock, best, datasets))
        callbacks += [saver, *more_callbacks]
        for first, stop in segments(start, total, datasets.period):
            length = min(stop - first, datasets.period)
            _set_steps_per_execution(model, execution.steps_per_execution, length)
            model.fit(
                datasets.training(first) if batches is None else batches,
                steps_per_epoch=length,
                initial_epoch=first // datasets.period,
                epochs=-(-stop // datasets.period),
                callbacks=callbacks,
                shuffle=False,  # the stream is already shuffled
                verbose=0,
            )
            batches = None
            if model.stop_training:
                break
        saver.save()
    if recipe.early_stopping is not None:
        distribution.anywhere(False)  # the other processes wait until the first has written
        found = best.load_newest()
        check_same_step(distribution, 0 if found is None else found[0])
        if found is not None:
            restore(model, found[1])
    return clock.rows, clock.seconds


def segments(step: int, total: int, period: int) -> Iterator[tuple[int, int]]:
    """Divides the steps from `step` to `total` into calls of `fit`, each with periods of one length.

    The rest of an interrupted period comes first, then whole periods, then a shorter last period.

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
    """Sets the largest number of steps per execution, up to `wanted`, that divides the period."""
    steps = max(steps for steps in range(1, wanted + 1) if length % steps == 0)
    if model.steps_per_execution != steps:
        model.steps_per_execution = steps
        model.train_function = None  # `fit` makes a new one after loss and metrics are built


def sweep(recipe: Recipe, output: str | os.PathLike, **options) -> list[TrainingResult]:
    """Trains by `recipe` once for each learning rate of its `learning_rate_grid`.

    The rates are ranked by accuracy on the recipe's evaluation split. If that split is not a part of the training
    split, a warning says how to hold out training images for the choice instead.

    Args:
        recipe: A recipe with a grid.
        output: Folder that holds the run folders `lr_RATE`.
        options: Further arguments of `train`.

    Returns:
        One result per rate, best accuracy first. A rate at which training diverges is left out with a warning.

    Raises:
        ValueError: If the recipe has no grid, or a rate in it is out of range.
        TrainingDivergedError: If training diverges at every rate.
    """
    if not recipe.learning_rate_grid:
        raise ValueError(f"The recipe {recipe.name} has no learning_rate_grid: set it, such as to [0.003, 0.01].")
    recipe = dataclasses.replace(recipe, data=choose_splits(recipe.data))
    rates = [recipe.override({"optimizer.learning_rate": str(rate)}) for rate in recipe.learning_rate_grid]
    _warn_unless_held_out(recipe.data)
    results = []
    for one in rates:
        rate = one.optimizer.learning_rate
        try:
            results.append(train(one, pathlib.Path(output, f"lr_{rate:g}"), **options))
        except TrainingDivergedError as error:
            if one is rates[-1] and not results:
                raise
            _log.warning("At the rate %g: %s", rate, error)
    return sorted(results, key=lambda result: -result.accuracy)


def _warn_unless_held_out(data: DataSpec) -> None:
    seen, ranked = (re.findall(r"[A-Za-z_]\w*", split) for split in (data.train_split, data.eval_split))
    if not set(ranked) <= set(seen):
        rest, held_out = ("+".join(f"{name}[{part}]" for name in seen) for part in (":90%", "90%:"))
        _log.warning(
            "The rates are ranked by data.eval_split=%s, which makes the best accuracy there look too good. To choose "
            "on images held out from training: --set 'data.train_split=%s' --set 'data.eval_split=%s'.",
            data.eval_split,
            rest,
            held_out,
        )
