"""Distillation: the loss and its gradient by their formulas, and whole runs, on both backends that train."""

import os
import pathlib
import subprocess
import sys

import distilled
import keras
import numpy as np
import pytest
from distilled import BATCH, CLASSES, RATE, SMOOTHING, STEPS, STUDENT, TEACHER, TEMPERATURE, WEIGHT
from scipy.special import log_softmax, softmax

from keras_mixer.card import ModelCard
from keras_mixer.data import load_model, save_model
from keras_mixer.preprocessing import Preprocessing
from keras_mixer.training import recipes, train
from keras_mixer.training.loop.checkpoints import CheckpointStore
from keras_mixer.training.network import teacher_of
from keras_mixer.weights import find

PROGRAM = pathlib.Path(distilled.__file__)
TINY = {
    "model.num_blocks": "1",
    "model.hidden_dim": "8",
    "model.tokens_mlp_dim": "4",
    "model.channels_mlp_dim": "8",
    "preprocessing.image_size": "[8, 8]",
    "data.train_split": "train[:320]",
    "data.eval_split": "test[:64]",
    "schedule.epochs": "null",
    "schedule.steps": "14",
    "schedule.warmup_steps": "2",
    "schedule.decay": "constant",
    "schedule.cooldown_steps": "4",
    "ema_momentum": "0.8",
    "execution.checkpoints_kept": "1",
}


def by_formula() -> dict[str, np.ndarray]:
    """Hinton et al.'s gradient of the softened scores, in double precision."""
    given = {name: value.astype("float64") for name, value in distilled.data().items()}
    kernel, bias = given["own_kernel"], given["own_bias"]
    pixels = given["images"] * STUDENT["std"] + STUDENT["mean"]
    seen = ((pixels - TEACHER["mean"]) / TEACHER["std"]).reshape(len(pixels), -1)
    taught = seen @ given["teacher_kernel"] + given["teacher_bias"]
    inputs = given["images"].reshape(len(pixels), -1)
    labels = given["labels"] * (1 - SMOOTHING) + SMOOTHING / CLASSES
    losses, accuracies = [], []
    for step in range(STEPS):
        part = slice(step * BATCH, (step + 1) * BATCH)
        scores = inputs[part] @ kernel + bias
        p, q = softmax(taught[part] / TEMPERATURE, axis=1), softmax(scores / TEMPERATURE, axis=1)
        hard = -(labels[part] * log_softmax(scores, axis=1)).sum(axis=1)
        soft = (p * np.log(p / q)).sum(axis=1)
        losses.append(np.mean((1 - WEIGHT) * hard + WEIGHT * TEMPERATURE**2 * soft))
        accuracies.append(np.mean(scores.argmax(axis=1) == labels[part].argmax(axis=1)))
        gradient = (1 - WEIGHT) * (softmax(scores, axis=1) - labels[part]) + WEIGHT * TEMPERATURE * (q - p)
        kernel = kernel - RATE * inputs[part].T @ gradient / BATCH
        bias = bias - RATE * gradient.mean(axis=0)
    after = -(labels * log_softmax(inputs @ kernel + bias, axis=1)).sum(axis=1).mean()
    return {"kernel": kernel, "bias": bias, "losses": losses, "accuracies": accuracies, "evaluated": after}


def check(found: dict[str, np.ndarray]) -> None:
    for name, expected in by_formula().items():
        np.testing.assert_allclose(found[name], expected, rtol=2e-5, atol=1e-6, err_msg=name)


def on_jax(folder: pathlib.Path) -> None:
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run([sys.executable, PROGRAM, folder], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_loss_and_gradient_are_those_of_the_formula(micro_batches):
    check(distilled.steps(micro_batches))


def test_the_teacher_is_no_part_of_the_checkpoint():
    weights, rate_and_count, metrics = 2, 2, 6
    assert distilled.steps(1)["variables"] <= weights + rate_and_count + metrics


def test_on_jax_too(tmp_path):
    on_jax(tmp_path)
    with np.load(tmp_path / "steps.npz") as found:
        for micro_batches in (1, 2):
            check({name.partition("/")[2]: found[name] for name in found if name.startswith(f"{micro_batches}/")})


@pytest.fixture(scope="module", params=["tensorflow", "jax-device"])
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("distilled")
    pipeline = "device" if request.param == "jax-device" else "host"
    recipe = recipes.get("digits").override(TINY | {"execution.pipeline": pipeline})
    (folder / "recipe.json").write_text(recipe.to_json())
    if pipeline == "device":
        on_jax(folder)
    else:
        distilled.runs(folder)
    return folder


def test_a_run_with_a_teacher_resumes_exactly(folder):
    for one, other in zip(saved(folder / "whole"), saved(folder / "first"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_finished_run_becomes_longer_from_before_its_cooldown(folder):
    """Its weights are those of a run of that length from the start; the average is over both parts."""
    assert CheckpointStore(folder / "resumed" / "checkpoints").steps() == [16, 20]
    for one, other in zip(saved(folder / "whole_longer"), saved(folder / "resumed"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_teacher_of_other_classes_is_refused(folder):
    recipe = recipes.get("digits").override(TINY | {"distillation.teacher": str(folder / "teacher")})
    with pytest.raises(ValueError, match=r"has the classes 0, 1, .* but the data has cat, dog"):
        teacher_of(recipe, ["cat", "dog"])


def saved(folder) -> list[np.ndarray]:
    return load_model(folder)[0].get_weights()


def test_weights_of_a_variant_teach(tmp_path):
    """The set that the package holds, on images of its size."""
    changes = {"preprocessing.image_size": "[32, 32]", "preprocessing.channels": "3"}
    recipe = recipes.get("digits").override(
        changes | {"distillation.teacher": "cifar10", "distillation.variant": "mixer_nano"}
    )
    teacher = teacher_of(recipe, [str(number) for number in range(10)])
    assert teacher.model.output_shape == (None, 10)
    assert teacher.model.layers[-1].activation.__name__ == "linear"
    with pytest.raises(ValueError, match="has 10 classes, but the data has 2"):
        teacher_of(recipe, ["cat", "dog"])
    with pytest.raises(ValueError, match="in another order: airplane, automobile"):
        teacher_of(recipe, sorted(find("mixer_nano", "cifar10").class_names, reverse=True))
    nameless = recipe.override({"distillation.variant": "null"})
    with pytest.raises(ValueError, match=r"set distillation\.variant"):
        teacher_of(nameless, ["cat"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distillation.weight": "1.5"}, r"distillation.weight must be in \[0, 1\]"),
        ({"distillation.temperature": "0"}, "distillation.temperature must be above 0"),
        ({"schedule.cooldown_steps": "5"}, "schedule.cooldown_steps ends a constant rate"),
        (
            {"schedule.decay": "constant", "schedule.cooldown_steps": "5", "early_stopping": "2"},
            "early_stopping would end a run before its cooldown",
        ),
    ],
)
def test_fields_that_cannot_be(changes, message):
    with pytest.raises(ValueError, match=message):
        recipes.get("digits").override(changes)


def test_a_teacher_whose_classifier_has_another_name_is_refused(tmp_path):
    images = keras.Input((8, 8, 1))
    scores = keras.layers.Dense(2, activation="softmax", name="predictions")(keras.layers.Flatten()(images))
    preprocessing = Preprocessing((8, 8), channels=1)
    save_model(keras.Model(images, scores), ModelCard("own", ("0", "1"), preprocessing), tmp_path)
    recipe = recipes.get("digits").override(TINY | {"distillation.teacher": str(tmp_path)})
    with pytest.raises(ValueError, match="has no layer called 'head'"):
        teacher_of(recipe, ["0", "1"])


def test_a_cooldown_longer_than_the_run_is_refused(tmp_path):
    recipe = recipes.get("digits").override(TINY | {"schedule.cooldown_steps": "13"})
    with pytest.raises(ValueError, match=r"cooldown_steps are 15 together, but .* 14 updates"):
        train(recipe, tmp_path / "run")
