"""A run per learning rate of a recipe's grid."""

import dataclasses
import logging
import os
import pathlib
import re

from keras_mixer.training.callbacks import TrainingDivergedError
from keras_mixer.training.recipe import DataSpec, Recipe
from keras_mixer.training.run import TrainingResult, train

_log = logging.getLogger(__name__)


def sweep(recipe: Recipe, output: str | os.PathLike, **options) -> list[TrainingResult]:
    """Trains by `recipe` once per rate of its `learning_rate_grid`, each in a folder of its own.

    The results are compared on the recipe's evaluation split. Where that is no part of the training images set aside,
    a warning says how to hold some out, so that the test split stays unread.

    Args:
        recipe: A recipe with a grid.
        output: Folder of the folders `lr_RATE`.
        options: Arguments of `train`.

    Returns:
        One result per rate, best accuracy first. A rate at which training diverges is left out, with a warning.

    Raises:
        ValueError: If the recipe has no grid, or one of its rates cannot be.
        TrainingDivergedError: If training diverges at every rate.
    """
    if not recipe.learning_rate_grid:
        raise ValueError(f"The recipe {recipe.name} has no learning_rate_grid: set it, such as to [0.003, 0.01].")
    optimizers = [dataclasses.replace(recipe.optimizer, learning_rate=rate) for rate in recipe.learning_rate_grid]
    _warn_unless_held_out(recipe.data)
    results = []
    for optimizer in optimizers:
        folder = pathlib.Path(output, f"lr_{optimizer.learning_rate:g}")
        try:
            results.append(train(dataclasses.replace(recipe, optimizer=optimizer), folder, **options))
        except TrainingDivergedError as error:
            if optimizer is optimizers[-1] and not results:
                raise
            _log.warning("At the rate %g: %s", optimizer.learning_rate, error)
    return sorted(results, key=lambda result: -result.accuracy)


def _warn_unless_held_out(data: DataSpec) -> None:
    seen, ranked = (re.findall(r"[A-Za-z_]\w*", split) for split in (data.train_split, data.eval_split))
    if not set(ranked) <= set(seen):
        rest, held_out = ("+".join(f"{name}[{part}]" for name in seen) for part in (":90%", "90%:"))
        _log.warning(
            "The rates are ranked by data.eval_split=%s, and the best one's accuracy there is too good. To choose on "
            "images held out from training: --set 'data.train_split=%s' --set 'data.eval_split=%s'.",
            data.eval_split,
            rest,
            held_out,
        )
