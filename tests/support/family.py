"""Tiny checkpoints of Mixer's siblings with their authors' implementations' logits, and models to load them into."""

import ast
import pathlib

import goldens
import numpy as np

from keras_mixer import models

FOLDER = pathlib.Path(__file__).parents[1] / "data" / "family"

# What the golden files' configurations call the builders' arguments.
_COMMON = {"N": "classes"}
_TOKENS = {**_COMMON, "depth": "num_blocks", "patch": "patch_size", "C": "hidden_dim", "mlp_ratio": "mlp_ratio"}
_PYRAMID = {
    **_COMMON,
    "layers": "layers",
    "embed_dims": "hidden_dims",
    "transitions": "transitions",
    "mlp_ratios": "mlp_ratios",
}
BUILDERS = {
    "resmlp": (models.ResMLP, _TOKENS),
    "gmlp": (models.GMLP, _TOKENS),
    "convmixer": (
        models.ConvMixer,
        {
            **_COMMON,
            "depth": "num_blocks",
            "patch": "patch_size",
            "C": "hidden_dim",
            "kernel": "kernel_size",
            "act": "activation",
        },
    ),
    "vip": (models.VisionPermutator, {**_PYRAMID, "patch": "patch_size", "segment_dim": "segment_dims"}),
    "cyclemlp": (models.CycleMLP, _PYRAMID),
}


def checkpoint(name):
    return FOLDER / f"{name}.safetensors"


def answers(name):
    """Images and the authors' logits."""
    with np.load(FOLDER / f"{name}_io.npz") as file:
        return file["images"], file["logits"]


def sizes(name):
    """The sizes of a golden checkpoint, as arguments of its builder."""
    with np.load(FOLDER / f"{name}_io.npz") as file:
        config = ast.literal_eval(str(file["config"]))
    return {argument: config[key] for key, argument in BUILDERS[name][1].items()}


def model(name, **arguments):
    """A model of random weights in the sizes of a golden checkpoint, ending in logits."""
    defaults = {"input_shape": (32, 32, 3), "classifier_activation": None}
    return BUILDERS[name][0](**(sizes(name) | defaults | arguments))


ARCHITECTURES = ("mixer", *BUILDERS)


def tiny(architecture, **arguments):
    """A model of random weights of any of the six architectures, for images of 32 pixels, ending in logits."""
    if architecture == "mixer":
        return goldens.mixer(**({"input_shape": (32, 32, 3)} | arguments))
    return model(architecture, **arguments)


def randomised(model, seed=1):
    """Random values everywhere, for biases and the head start at zero and would hide an error."""
    rng = np.random.default_rng(seed)
    model.set_weights(
        [
            # A variance is positive.
            rng.uniform(0.5, 1.5, size=w.shape) if "variance" in w.path else rng.normal(0, 0.2, size=w.shape)
            for w in model.weights
        ]
    )
    return model
