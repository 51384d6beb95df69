"""Training the package's Mixer on Keras's PyTorch backend, by PyTorch's own step, eager."""

import os

os.environ["KERAS_BACKEND"] = "torch"

import torch
from workers.package_mixer import build
from workers.timm_torch import matmul_flops, training


def prepare(row):
    """The step of the row and the matmul rate beside it."""
    model = build(row)
    images = torch.randn(row["batch"], *model.input_shape[1:])
    step = training(model, lambda images: model(images, training=True), images, half=False)  # Keras casts by itself
    return step, matmul_flops(images.device, getattr(torch, row["dtype"]))
