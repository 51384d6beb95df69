"""The package's Mixer on JAX: the path of GPUs and TPUs without TensorFlow."""

import os

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras
import numpy as np
from sizes import CLASSES
from workers.jax_clock import matmul_flops
from workers.package_mixer import build


def prepare(row):
    """The step of the row and the matmul rate beside it."""
    model = build(row)
    shape = (row["batch"], *model.input_shape[1:])
    images = jax.device_put(np.random.default_rng(0).normal(size=shape).astype("float32"))
    peak = matmul_flops(row["dtype"], gpu=row["options"].get("device") == "gpu")
    step = _inference(model, images) if row["task"] == "inference" else _training(model, images)
    return step, peak


def _inference(model, images):
    forward = jax.jit(lambda trainable, fixed, x: model.stateless_call(trainable, fixed, x, training=False)[0])
    trainable = [variable.value for variable in model.trainable_variables]
    fixed = [variable.value for variable in model.non_trainable_variables]
    return lambda: jax.block_until_ready(forward(trainable, fixed, images)) is None


def _training(model, images):
    """The step that `model.fit` compiles, on a batch that is on the device already."""
    labels = jax.device_put(np.random.default_rng(0).integers(0, CLASSES, size=len(images)))
    model.compile(
        keras.optimizers.AdamW(1e-3, weight_decay=0.1, global_clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=True,
    )
    model.optimizer.build(model.trainable_variables)

    def loss(trainable, fixed):
        logits, fixed = model.stateless_call(trainable, fixed, images, training=True)
        return model.loss(labels, logits), fixed

    @jax.jit
    def update(trainable, fixed, moments):
        gradients, fixed = jax.grad(loss, has_aux=True)(trainable, fixed)
        trainable, moments = model.optimizer.stateless_apply(moments, gradients, trainable)
        return trainable, fixed, moments

    state = [
        [variable.value for variable in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables, model.optimizer.variables)
    ]

    def step():
        state[:] = jax.block_until_ready(update(*state))

    return step
