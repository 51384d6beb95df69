"""The package's Mixer on TensorFlow."""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf
from sizes import CLASSES, SIZES
from workers.tensorflow_steps import images_of, inference, matmul_flops

import keras_mixer
from keras_mixer.training import recipes, training_model
from keras_mixer.training.devices.distribution import choose


def build(row):
    """A Mixer of the row's size, with weights held in the compute type when they are not trained."""
    half = {"inference": "bfloat16", "training": "mixed_bfloat16"}
    keras.config.set_dtype_policy("float32" if row["dtype"] == "float32" else half[row["task"]])
    blocks, patch, hidden, tokens_mlp, channels_mlp, image = SIZES[row["variant"]]
    return keras_mixer.Mixer(
        num_blocks=blocks,
        patch_size=patch,
        hidden_dim=hidden,
        tokens_mlp_dim=tokens_mlp,
        channels_mlp_dim=channels_mlp,
        input_shape=(image, image, 3),
        classes=CLASSES,
        classifier_activation=None,
    )


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
