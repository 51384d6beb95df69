"""A Mixer as a tutorial would write it: Dense on three axes and Permute."""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import tensorflow as tf
from keras import layers
from sizes import CLASSES, SIZES
from workers.tensorflow_steps import inference, matmul_flops, training


def prepare(row):
    """The step of the row and the matmul rate beside it."""
    keras.config.set_dtype_policy(row["dtype"])
    blocks, patch, hidden, tokens_mlp, channels_mlp, side = SIZES[row["variant"]]

    def mlp(x, width):
        back = x.shape[-1]
        x = layers.Dense(width)(x)
        x = layers.Activation(lambda t: keras.activations.gelu(t, approximate=True))(x)
        return layers.Dense(back)(x)

    images = keras.Input((side, side, 3))
    x = layers.Conv2D(hidden, patch, strides=patch)(images)
    x = layers.Reshape((-1, hidden))(x)
    for _ in range(blocks):
        y = layers.Permute((2, 1))(layers.LayerNormalization(epsilon=1e-6)(x))
        x = x + layers.Permute((2, 1))(mlp(y, tokens_mlp))
        x = x + mlp(layers.LayerNormalization(epsilon=1e-6)(x), channels_mlp)
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization(epsilon=1e-6)(x))
    model = keras.Model(images, layers.Dense(CLASSES, dtype="float32")(x))
    make_step = inference if row["task"] == "inference" else training
    return make_step(model, row), matmul_flops(tf.as_dtype(row["dtype"]))
