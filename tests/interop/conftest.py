"""The shipped Mixer-Nano as files and on a server."""

import pathlib

import numpy as np
import pytest
from foreign import Example

from keras_mixer import serving
from keras_mixer.artefacts import keras_predictor
from keras_mixer.cli.options import open_variant
from keras_mixer.export import export

PHOTOGRAPHS = pathlib.Path(__file__).parents[1] / "data" / "cifar10" / "test"
FORMATS = ("saved_model", "litert", "litert_dynamic_int8", "onnx")


@pytest.fixture(scope="session")
def example(tmp_path_factory):
    model, card = open_variant("mixer_nano", "cifar10")
    folder = tmp_path_factory.mktemp("interop") / "nano"
    files = sorted(PHOTOGRAPHS.glob("*/*.jpg"))
    images = np.stack([card.preprocessing(file.read_bytes()) for file in files])
    export(model, card, folder, FORMATS, limit=2)
    np.savez(folder / "images.npz", images=images)
    (folder / "files.txt").write_text("\n".join(map(str, files)))
    return Example(folder, keras_predictor(model).scores(images), card.class_names)


@pytest.fixture(scope="session")
def server(example):
    with serving.Server(example.folder, rest_port=0, port=0) as server:
        yield server
