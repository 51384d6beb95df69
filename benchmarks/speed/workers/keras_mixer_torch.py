"""Training the package's Mixer on Keras's PyTorch backend, by PyTorch's own step, eager or under torch.compile."""

import os

os.environ["KERAS_BACKEND"] = "torch"

import torch
from workers.package_mixer import build
from workers.timm_torch import matmul_flops, training


class Forward(torch.nn.Module):
    """The model as a module of PyTorch, in training."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        """Images to logits."""
        return self.model(images, training=True)


def prepare(row):
    """The step of the row and the matmul rate beside it."""
    model = build(row)
    images = torch.randn(row["batch"], *model.input_shape[1:])
    model = Forward(model)
    forward = torch.compile(model) if row["options"].get("compile") else model
    step = training(model, forward, images, half=False)  # Keras casts by itself
    return step, matmul_flops(images.device, getattr(torch, row["dtype"]))
