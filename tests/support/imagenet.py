"""A small classifier of ImageNet-21k's 21,843 classes, and ImageNet ReaL as TFDS stores it, in a few images."""

import pathlib

import keras
import numpy as np
import tensorflow_datasets as tfds

import keras_mixer
from keras_mixer.data import ModelCard, Preprocessing

CLASSES_21K = 21_843
PREPROCESSING = Preprocessing(image_size=(8, 8), channels=3)


def synsets() -> tuple[str, ...]:
    """The WordNet ids of the 1,000 classes, in ImageNet's order."""
    return tuple(tfds.builder("imagenet2012", data_dir="unused").info.features["label"].names)


def classifier() -> keras.Model:
    """A Mixer whose scores differ from image to image."""
    keras.utils.set_random_seed(1)
    model = keras_mixer.Mixer(
        num_blocks=1,
        patch_size=4,
        hidden_dim=6,
        tokens_mlp_dim=4,
        channels_mlp_dim=8,
        input_shape=PREPROCESSING.input_shape,
        classes=CLASSES_21K,
    )
    model.get_layer("head").kernel.assign(np.random.default_rng(0).normal(size=(6, CLASSES_21K)))
    return model


def card(places: np.ndarray) -> ModelCard:
    """A card on which class i of ImageNet is the model's class `places[i]`; the others are not in ImageNet."""
    names = [f"n9{index:07}" for index in range(CLASSES_21K)]
    for place, synset in zip(places, synsets(), strict=True):
        names[place] = synset
    return ModelCard("mixer_21k", tuple(names), PREPROCESSING)


def write_run(folder: pathlib.Path, model: keras.Model, card: ModelCard) -> pathlib.Path:
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "model.keras")
    card.save(folder / "model.json")
    return folder


def write_real(data_dir: pathlib.Path, images, labels, label_sets) -> None:
    """Stores images as `tfds.builder("imagenet2012_real", data_dir=data_dir)` reads them."""
    published = tfds.builder("imagenet2012_real", data_dir=data_dir)

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = published.version
        name = published.name

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=published.info.features)

        def _split_generators(self, dl_manager):
            return {"validation": self._generate_examples()}

        def _generate_examples(self):
            for number, (image, label, real) in enumerate(zip(images, labels, label_sets, strict=True)):
                record = {"image": image, "original_label": label, "real_label": real, "file_name": f"{number}.JPEG"}
                yield number, record

    Builder(data_dir=data_dir).download_and_prepare()
