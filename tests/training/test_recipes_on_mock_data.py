"""Recipes take two steps, through their own data, augmentation, optimizer and schedule, with a small network."""

import dataclasses
import re

import numpy as np
import pytest
import tensorflow_datasets as tfds

from keras_mixer.data import load_model
from keras_mixer.training import recipes, train
from keras_mixer.training.devices.distribution import choose
from keras_mixer.training.loop.data import open_datasets

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
    "ema_momentum": "null",
}
FOLDERS = ("./imagenet21k", "./jft", "./photos")
CLASSES = {
    "imagenet2012": 1000,
    "cifar10": 10,
    "cifar100": 100,
    "oxford_iiit_pet": 37,
    "oxford_flowers102": 102,
    "caltech101": 102,
    **dict.fromkeys(FOLDERS, 2),
}
# One of each kind; what else a recipe says is a number, or decides its data.
TRAINED = ["imagenet_b16", "finetune_cifar10", "cifar10", "cifar10_nano"]


def small(name):
    patch, side = (4, 8) if name.startswith("cifar10") else (16, 32)
    changes = {**SMALL, "model.patch_size": str(patch), "model.image_size": f"[{side}, {side}]"}
    if recipes.get(name).model.architecture == "conv_mixer":
        changes |= {"model.tokens_mlp_dim": "null", "model.channels_mlp_dim": "null"}
    return recipes.get(name).override(changes)


def distinct() -> list[str]:
    """Without those that come out the same as another: recipes of two variants, when both have the small network."""
    names: dict[str, str] = {}
    for name in recipes.RECIPES:
        if name != "digits":
            names.setdefault(dataclasses.replace(small(name), name="").to_json(), name)
    return list(names.values())


@pytest.fixture
def recipe(request, tmp_path, monkeypatch):
    """A small recipe by name, and its data: mocked, or folders of images."""
    recipe = small(request.param)
    if recipe.data.name in FOLDERS:
        _folder(tmp_path / recipe.data.name)
        monkeypatch.chdir(tmp_path)
        yield recipe
        return
    # The mocked datasets are too small for slices.
    splits = {"data.train_split": recipe.data.train_split, "data.eval_split": recipe.data.eval_split}
    with tfds.testing.mock_data(num_examples=8):
        yield recipe.override({field: re.sub(r"\[.*\]", "", split) for field, split in splits.items()})


@pytest.mark.parametrize("recipe", TRAINED, indirect=True)
def test_two_steps(recipe, tmp_path):
    result = train(recipe, tmp_path / "run")
    assert result.steps == 2
    # From a head of zeros, all classes are equally likely; one step moves that little.
    assert result.history[-1]["loss"] == pytest.approx(np.log(CLASSES[recipe.data.name]), rel=0.02)
    # The head starts at zero and has moved.
    assert np.abs(load_model(result.folder)[0].get_layer("head").get_weights()[0]).max() > 0


@pytest.mark.parametrize("recipe", [name for name in distinct() if name not in TRAINED], indirect=True)
def test_the_data_of_the_others(recipe):
    datasets = open_datasets(recipe, choose("default"))
    size, classes = (4, *recipe.preprocessing.image_size, 3), CLASSES[recipe.data.name]
    ((images, labels),) = datasets.training(0).take(1)
    ((measured, true, weights),) = datasets.evaluation(datasets.eval_source)[0].take(1)
    assert (images.shape, labels.shape) == (measured.shape, true.shape) == (size, (4, classes))
    expected = datasets.preprocessing
    least, most = ((limit - np.array(expected.mean)) / expected.std for limit in (0, 1))
    for values in (images, measured):
        assert np.min(least) - 1e-5 <= np.min(values) < np.max(values) <= np.max(most) + 1e-5
    np.testing.assert_allclose(np.sum(labels, axis=1), 1, atol=1e-6)
    assert np.sum(true == 1, axis=1).tolist() == np.sum(true, axis=1).tolist() == [1] * 4
    assert np.sum(weights) == 4


def _folder(root):
    import tensorflow as tf

    for split in ("train", "validation"):
        for label in ("first", "second"):
            (root / split / label).mkdir(parents=True)
            for number in range(4):
                pixels = tf.random.stateless_uniform((40, 36, 3), (number, 0), 0, 256, tf.int32)
                encoded = tf.io.encode_jpeg(tf.cast(pixels, tf.uint8)).numpy()
                (root / split / label / f"{number}.jpg").write_bytes(encoded)
