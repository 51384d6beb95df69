"""Small checkpoints with the reference implementation's logits, and models to load them into."""

import pathlib

import keras
import numpy as np

import keras_mixer

FOLDER = pathlib.Path(__file__).parents[1] / "data" / "goldens"
TINY = FOLDER / "official_tiny_params.npz"
LAYOUTS = {
    "official": TINY,
    "official of May 2021": FOLDER / "official_tiny_prelinen_params.npz",
    "timm": FOLDER / "official_tiny_timm.safetensors",
}


def answers(name="tiny"):
    """Images and the reference's logits and features."""
    with np.load(FOLDER / f"official_{name}_io.npz") as file:
        return file["images"], file["logits"], file["features"]


def mixer(golden="tiny", **arguments):
    """A Mixer of random weights in the sizes of a golden checkpoint."""
    with np.load(FOLDER / f"official_{golden}_io.npz") as file:
        side, patch_size, num_blocks, hidden_dim, tokens_mlp_dim, channels_mlp_dim, classes = map(int, file["config"])
    sizes = dict(
        num_blocks=num_blocks,
        patch_size=patch_size,
        hidden_dim=hidden_dim,
        tokens_mlp_dim=tokens_mlp_dim,
        channels_mlp_dim=channels_mlp_dim,
        input_shape=(side, side, 3),
        classes=classes,
        classifier_activation=None,
    )
    return keras_mixer.Mixer(**(sizes | arguments))


def outputs(model, images):
    if keras.backend.backend() == "jax":  # which compiles each operation by itself when a model is called
        return model.predict_on_batch(images)
    return keras.ops.convert_to_numpy(model(images))


def relative_error(values, reference):
    return np.abs(values - reference).max() / np.abs(reference).max()


def snapshot(model):
    return [np.array(weight) for weight in model.get_weights()]


def same(first, second):
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(first, second, strict=True))
