"""Small classifiers of the embedded digits, for tests of what happens to a model after training."""

import pathlib

import keras
import numpy as np

import keras_mixer
from keras_mixer.artefacts import export_litert, export_saved_model
from keras_mixer.data import DatasetSpec, ModelCard, Preprocessing, evaluation_batches, load

RIDGE = 1e-2
PREPROCESSING = Preprocessing(image_size=(8, 8), channels=1, resize="direct")


def untrained(classifier_activation="softmax") -> keras.Model:
    """A Mixer with random weights everywhere, so that its scores differ from image to image."""
    keras.utils.set_random_seed(1)
    model = keras_mixer.Mixer(
        num_blocks=2,
        patch_size=2,
        hidden_dim=32,
        tokens_mlp_dim=16,
        channels_mlp_dim=64,
        input_shape=(8, 8, 1),
        classes=10,
        classifier_activation=classifier_activation,
    )
    model.get_layer("head").set_weights([np.random.normal(size=(32, 10)), np.random.normal(size=10)])
    return model


def fitted(data_dir: pathlib.Path) -> keras.Model:
    """The same Mixer with a head fitted to the training split, in a second; right on three images of four."""
    model = untrained()
    ((images, labels, _),) = evaluation_batches(load("digits", "train", str(data_dir)), PREPROCESSING, 2000)
    features = keras.Model(model.inputs[0], model.get_layer("pre_logits").output).predict_on_batch(images.numpy())
    design, targets = np.hstack([features, np.ones((len(features), 1))]), np.eye(10)[labels.numpy()] - 0.1
    # Ridge regression: without it large weights of opposite sign would magnify every rounding error.
    kernel = np.linalg.solve(design.T @ design + RIDGE * np.eye(design.shape[1]), design.T @ targets)
    model.get_layer("head").set_weights([10 * kernel[:-1], 10 * kernel[-1]])
    return model


def trained(data_dir: pathlib.Path) -> keras.Model:
    """The same Mixer after fifteen epochs, some seconds."""
    model = untrained()
    batches = evaluation_batches(load("digits", "train", str(data_dir)), PREPROCESSING, 64)
    model.compile("adam", "sparse_categorical_crossentropy")
    batches = batches.map(lambda images, labels, _: (images, labels)).cache().shuffle(30, seed=0)
    model.fit(batches, epochs=15, shuffle=False, verbose=0)
    return model


def card(data_dir: pathlib.Path) -> ModelCard:
    return ModelCard("digits", tuple("0123456789"), PREPROCESSING, DatasetSpec("digits", "test", str(data_dir)))


def write_run(folder: pathlib.Path, model: keras.Model | None = None) -> pathlib.Path:
    """A run folder as training leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    (model or untrained()).save(folder / "model.keras")
    card(folder.parent).save(folder / "model.json")
    return folder


def export(folder: pathlib.Path, model: keras.Model, card: ModelCard) -> None:
    """Exports to a SavedModel and a LiteRT file."""
    export_saved_model(model, folder, card)
    export_litert(model, folder / "model.tflite")
    card.save(folder / "model.json")


def random_images(count: int) -> np.ndarray:
    return np.random.default_rng(2).uniform(-1, 1, (count, 8, 8, 1)).astype(np.float32)
