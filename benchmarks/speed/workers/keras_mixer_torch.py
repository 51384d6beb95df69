"""Training the package's Mixer on Keras's PyTorch backend, by PyTorch's own step, eager."""

import os

os.environ["KERAS_BACKEND"] = "torch"

import keras
import torch
from sizes import CLASSES, SIZES
from workers.timm_torch import matmul_flops, training

import keras_mixer


def prepare(row):
    """The step of the row and the matmul rate beside it."""
    half = row["dtype"] == "bfloat16"
    keras.config.set_dtype_policy("mixed_bfloat16" if half else "float32")
    blocks, patch, hidden, tokens_mlp, channels_mlp, side = SIZES[row["variant"]]
    model = keras_mixer.Mixer(
        num_blocks=blocks,
        patch_size=patch,
        hidden_dim=hidden,
        tokens_mlp_dim=tokens_mlp,
        channels_mlp_dim=channels_mlp,
        input_shape=(side, side, 3),
        classes=CLASSES,
        classifier_activation=None,
    )
    images = torch.randn(row["batch"], side, side, 3)
    step = training(model, lambda images: model(images, training=True), images, half=False)  # Keras casts by itself
    return step, matmul_flops(images.device, torch.bfloat16 if half else torch.float32)
