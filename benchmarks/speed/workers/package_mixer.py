"""The package's Mixer of a row, on TensorFlow unless the worker that asks for it has named another backend."""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
from sizes import CLASSES, SIZES

import keras_mixer


def build(row):
    """A Mixer of the row's size, with weights held in the compute type when they are not trained."""
    half = {"inference": "bfloat16", "training": "mixed_bfloat16"}
    keras.config.set_dtype_policy("float32" if row["dtype"] == "float32" else half[row["task"]])
    blocks, patch, hidden, tokens_mlp, channels_mlp, side = SIZES[row["variant"]]
    return keras_mixer.Mixer(
        num_blocks=blocks,
        patch_size=patch,
        hidden_dim=hidden,
        tokens_mlp_dim=tokens_mlp,
        channels_mlp_dim=channels_mlp,
        input_shape=(side, side, 3),
        classes=CLASSES,
        classifier_activation=None,
    )
