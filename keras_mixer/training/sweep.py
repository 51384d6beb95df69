"""A run per learning rate of a recipe's grid."""

import dataclasses
import os
import pathlib

from keras_mixer.training.recipe import Recipe
from keras_mixer.training.run import TrainingResult, train


def sweep(recipe: Recipe, output: str | os.PathLike, **options) -> list[TrainingResult]:
    """Trains by `recipe` once per rate of its `learning_rate_grid`, each in a folder of its own.

    The results are compared on the recipe's evaluation split: set `data.eval_split` to held-out training images, such
    as "train[90%:]" with "train[:90%]" for training, where the test split is to stay unread.

    Args:
        recipe: A recipe with a grid.
        output: Folder of the folders `lr_RATE`.
        options: Arguments of `train`.

    Returns:
        One result per rate, best accuracy first.

    Raises:
        ValueError: If the recipe has no grid.
    """
    if not recipe.learning_rate_grid:
        raise ValueError(f"The recipe {recipe.name} has no learning_rate_grid: set it, such as to [0.003, 0.01].")
    results = []
    for rate in recipe.learning_rate_grid:
        optimizer = dataclasses.replace(recipe.optimizer, learning_rate=rate)
        results.append(
            train(dataclasses.replace(recipe, optimizer=optimizer), pathlib.Path(output, f"lr_{rate:g}"), **options)
        )
    return sorted(results, key=lambda result: -result.accuracy)
