"""A registered architecture is trained, exported and loaded like one of the package's own."""

import math

import numpy as np
import pytest
from toy_architecture import registered

from keras_mixer import data
from keras_mixer.artefacts import open_classifier
from keras_mixer.export import export
from keras_mixer.training import recipes, train

CHANGES = {
    **dict.fromkeys([f"model.{size}" for size in recipes.get("digits").model.arguments], "null"),
    "preprocessing.image_size": "[8, 8]",
    "schedule.epochs": "null",
    "schedule.steps": "60",
    "schedule.warmup_steps": "0",
    "optimizer.learning_rate": "0.03",
}


@pytest.fixture(scope="module", autouse=True)
def toy():
    with registered():
        yield


def test_a_variant_is_trained_exported_and_loaded(tmp_path):
    recipe = recipes.get("digits").override({**CHANGES, "model.variant": "toy_s", "data.data_dir": str(tmp_path)})
    result = train(recipe, tmp_path / "run")
    assert result.loss < math.log(10)  # better than guessing
    model, card = data.load_model(result.folder)
    assert model.get_layer("gate").kernel.shape == (8, 8)
    report = export(model, card, tmp_path / "toy", ["saved_model", "litert"])
    assert report.breaches == []
    images = np.random.default_rng(0).uniform(-1, 1, (1, *card.preprocessing.input_shape)).astype("float32")
    for file in ("1", "model.tflite"):
        classifier, _ = open_classifier(tmp_path / "toy" / file)
        np.testing.assert_allclose(classifier.scores(images), model.predict(images, verbose=0), atol=1e-5)
    further = recipe.override({"model.variant": "null", "model.weights": str(result.folder), "schedule.steps": "1"})
    assert train(further, tmp_path / "further").loss < math.log(10)


def test_an_architecture_takes_every_argument_of_its_builder(tmp_path):
    sizes = {"model.architecture": "toy", "model.hidden_dim": "12", "model.arguments.patch_size": "2"}
    recipe = recipes.get("digits").override({**CHANGES, **sizes, "schedule.steps": "1", "data.data_dir": str(tmp_path)})
    train(recipe, tmp_path / "run")
    model, _ = data.load_model(tmp_path / "run")
    assert model.get_layer("gate").kernel.shape == (12, 12)
    with pytest.raises(ValueError, match=r"toy has no argument mlp_ratio: .* hidden_dim, patch_size"):
        train(recipe.override({"model.mlp_ratio": "3"}), tmp_path / "other")
