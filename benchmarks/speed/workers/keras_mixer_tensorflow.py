"""The package's Mixer on TensorFlow."""

import os

import numpy as np
import tensorflow as tf
from sizes import CLASSES
from workers.package_mixer import build
from workers.tensorflow_steps import images_of, inference, matmul_flops

from keras_mixer.training import recipes, training_model
from keras_mixer.training.devices.distribution import choose


def training(model, row):
    """The package's own step, as `keras-mixer train` takes it: forward, backward, clipping and AdamW."""
    recipe = recipes.get("imagenet_b16").override({"execution.steps_per_execution": "1"})
    trained = training_model(model, recipe, 2 * recipe.schedule.warmup_steps, choose("default"))
    labels = np.eye(CLASSES, dtype="float32")[np.random.default_rng(0).integers(0, CLASSES, size=row["batch"])]
    batches = iter(tf.data.Dataset.from_tensors((images_of(row), labels)).cache().repeat())
    trained.make_train_function()
    return lambda: float(tf.nest.flatten(trained.train_function(batches))[0]) is None


def prepare(row):
    """The step of the row and the matmul rate beside it; TensorFlow asks for its variables at the first operation."""
    os.environ.update(row["options"].get("variables", {}))
    make_step = inference if row["task"] == "inference" else training
    return make_step(build(row), row), matmul_flops(tf.as_dtype(row["dtype"]))
