"""Every recipe takes two steps: through its own data, augmentation, optimizer and schedule, with a small network."""

import dataclasses
import re

import numpy as np
import pytest
import tensorflow_datasets as tfds

from keras_mixer.data import load_model
from keras_mixer.training import recipes, train

# Small enough for a CPU, and nothing that decides what the recipe is.
SMALL = {
    "model.variant": "null",
    "model.num_blocks": "1",
    "model.hidden_dim": "8",
    "model.tokens_mlp_dim": "4",
    "model.channels_mlp_dim": "8",
    "model.weights": "null",
    "batch_size": "4",
    "eval_batch_size": "4",
    "schedule.epochs": "null",
    "schedule.steps": "2",
    "schedule.warmup_steps": "1",
}
FOLDERS = ("./imagenet21k", "./jft")


def small(name):
    patch, side = (4, 8) if name.startswith("cifar10") else (16, 32)
    changes = {**SMALL, "model.patch_size": str(patch), "model.image_size": f"[{side}, {side}]"}
    return recipes.get(name).override(changes)


def distinct() -> list[str]:
    """Without those that come out the same as another: recipes of two variants, when both have the small network."""
    names: dict[str, str] = {}
    for name in recipes.RECIPES:
        if name != "digits":
            names.setdefault(dataclasses.replace(small(name), name="").to_json(), name)
    return list(names.values())


@pytest.mark.parametrize("name", distinct())
def test_two_steps(name, tmp_path, monkeypatch):
    recipe = small(name)
    if recipe.data.dataset in FOLDERS:
        _folder(tmp_path / recipe.data.dataset, recipe.data)
        monkeypatch.chdir(tmp_path)
        result = train(recipe, tmp_path / "run")
    else:
        # The mocked datasets are too small for slices.
        splits = {"data.train_split": recipe.data.train_split, "data.eval_split": recipe.data.eval_split}
        recipe = recipe.override({field: re.sub(r"\[.*\]", "", split) for field, split in splits.items()})
        with tfds.testing.mock_data(num_examples=8):
            result = train(recipe, tmp_path / "run")
    assert result.steps == 2
    assert np.isfinite(result.history[-1]["loss"])
    # The head starts at zero and has moved.
    assert np.abs(load_model(result.folder)[0].get_layer("head").get_weights()[0]).max() > 0


def _folder(root, data):
    import tensorflow as tf

    for split in (data.train_split, data.eval_split):
        for label in ("first", "second"):
            (root / split / label).mkdir(parents=True)
            for number in range(4):
                pixels = tf.random.stateless_uniform((40, 36, 3), (number, 0), 0, 256, tf.int32)
                encoded = tf.io.encode_jpeg(tf.cast(pixels, tf.uint8)).numpy()
                (root / split / label / f"{number}.jpg").write_bytes(encoded)
