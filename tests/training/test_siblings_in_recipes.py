"""Mixer's siblings in recipes and on the command line, by nothing but their names."""

import dataclasses

import goldens
import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mixer
from keras_mixer import weights
from keras_mixer.cli.options import open_variant
from keras_mixer.data import ModelCard, Preprocessing, load_model
from keras_mixer.evaluation import open_classifier
from keras_mixer.export import export
from keras_mixer.training import initial_network, recipes, train
from keras_mixer.training.network import input_preprocessing
from keras_mixer.training.recipe import ModelSpec, PreprocessingSpec, Recipe, ScheduleSpec

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def recipe_of(model, image_size=(224, 224), channels=3):
    return Recipe("network", model, PreprocessingSpec(image_size, channels), schedule=ScheduleSpec(steps=1))


@pytest.mark.parametrize("variant", ["res_mlp_12", "g_mlp_ti", "conv_mixer_1024_20", "cycle_mlp_b1"])
def test_a_recipe_names_a_variant(variant, shapes_only):
    model = ModelSpec(variant=variant, arguments={"stochastic_depth": 0.1, "dropout": 0.1})
    if variant == "conv_mixer_1024_20":
        model = ModelSpec(variant=variant)
    network = initial_network(recipe_of(model, (28, 28) if variant == "conv_mixer_1024_20" else (32, 32)), 3)
    assert network.output_shape == (None, 3)
    assert network.get_layer("head").activation.__name__ == "linear"


def test_a_recipe_starts_from_a_file(tmp_path):
    start = initial_network(recipe_of(ModelSpec(variant="cycle_mlp_b1"), (32, 32)), 3)
    start.save_weights(tmp_path / "start.weights.h5")
    recipe = recipe_of(ModelSpec(variant="cycle_mlp_b1", weights=str(tmp_path / "start.weights.h5")), (64, 32))
    assert goldens.same(goldens.snapshot(start), goldens.snapshot(initial_network(recipe, 3)))


@pytest.mark.parametrize(
    "model",
    [
        ModelSpec(variant="g_mlp_ti"),
        ModelSpec(arguments=dict(num_blocks=1, patch_size=8, hidden_dim=8, tokens_mlp_dim=4, channels_mlp_dim=8)),
    ],
    ids=["sibling", "sizes"],
)
def test_a_head_of_other_classes_starts_fresh(model, tmp_path, caplog):
    start = initial_network(recipe_of(model, (32, 32)), 5)
    start.get_layer("head").kernel.assign(keras.ops.ones(start.get_layer("head").kernel.shape))
    weights.save_npz(start, tmp_path / "start.npz")
    model = dataclasses.replace(model, weights=str(tmp_path / "start.npz"))
    network = initial_network(recipe_of(model, (32, 32)), 3)
    assert "head for 3 classes starts fresh" in caplog.text
    assert goldens.same(goldens.snapshot(network)[:-2], goldens.snapshot(start)[:-2])
    assert not goldens.snapshot(network)[-2].any()


def test_a_trained_sibling_keeps_its_rates(tmp_path):
    model = keras_mixer.ResMLP(
        num_blocks=2, patch_size=8, hidden_dim=8, input_shape=(32, 32, 3), classes=2, stochastic_depth=0.2
    )
    model.save(tmp_path / "model.keras")
    ModelCard("trained", ("ant", "bee"), Preprocessing((32, 32))).save(tmp_path / "model.json")
    network = initial_network(recipe_of(ModelSpec(weights=str(tmp_path)), (32, 32)), 2)
    assert goldens.same(goldens.snapshot(network)[:-2], goldens.snapshot(model)[:-2])
    assert network.get_layer("block_1_1_stochastic_depth").rate == pytest.approx(0.2)
    for changed in ({"stochastic_depth": 0.1}, {"dropout": 0.1}):
        with pytest.raises(ValueError, match=r"not a Mixer: it keeps.*model\.stochastic_depth and model\.dropout to 0"):
            initial_network(recipe_of(ModelSpec(weights=str(tmp_path), arguments=changed), (32, 32)), 2)


@pytest.mark.parametrize(
    ("variant", "scale", "resized"),  # the side to which the authors' code resizes for a crop of 224 px
    [
        ("res_mlp_24", IMAGENET, 248),
        ("g_mlp_s", (0.5, 0.5), 256),
        ("conv_mixer_768_32", IMAGENET, 233),
        ("vision_permutator_small_7", IMAGENET, 256),
        ("vision_permutator_medium_7", IMAGENET, 248),
        ("cycle_mlp_b2", IMAGENET, 256),
    ],
)
def test_images_are_prepared_as_for_the_published_weights(variant, scale, resized):
    wanted = input_preprocessing(recipe_of(ModelSpec(variant=variant)))
    assert ((wanted.mean, wanted.std), wanted.interpolation) == (scale, "bicubic")
    assert round(224 / wanted.crop_share) == resized
    assert input_preprocessing(recipe_of(ModelSpec(variant=variant, weights="converted.safetensors"))) == wanted
    grey = input_preprocessing(recipe_of(ModelSpec(variant=variant), channels=1))
    assert np.ravel(grey.mean) == pytest.approx([np.mean(wanted.mean)])
    assert np.ravel(grey.std) == pytest.approx([np.mean(wanted.std)])
    assert grey == dataclasses.replace(wanted, channels=1, mean=grey.mean, std=grey.std)


def test_the_scale_of_each_channel_goes_from_weights_to_artefacts(tmp_path):
    """A run that starts from a model of ImageNet's mean and deviation trains, evaluates and is exported with them."""
    scale = Preprocessing((8, 8), 3, "direct", "bicubic", mean=IMAGENET[0], std=IMAGENET[1], crop_share=0.96)
    start = keras_mixer.ResMLP(num_blocks=1, patch_size=4, hidden_dim=8, input_shape=(8, 8, 3), classes=10)
    (tmp_path / "start").mkdir()
    start.save(tmp_path / "start" / "model.keras")
    ModelCard("start", tuple("0123456789"), scale).save(tmp_path / "start" / "model.json")
    sizes = ("num_blocks", "patch_size", "hidden_dim", "tokens_mlp_dim", "channels_mlp_dim")
    recipe = recipes.get("digits").override(
        {
            **{f"model.{size}": "null" for size in sizes},
            "model.weights": str(tmp_path / "start"),
            "model.image_size": "[8, 8]",
            "model.channels": "3",
            "model.stochastic_depth": "0",
            "model.dropout": "0",
            "optimizer.learning_rate": "0.1",
            "schedule.epochs": "null",
            "schedule.steps": "5",
            "schedule.warmup_steps": "0",
        }
    )
    result = train(recipe, tmp_path / "run")
    model, card = load_model(result.folder)
    assert card.preprocessing == scale

    report = export(model, card, tmp_path / "exported", ("saved_model", "litert"), limit=60)
    assert report.breaches == []
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    (expected,) = model.predict(((pixels / 255 - IMAGENET[0]) / IMAGENET[1])[None], verbose=0)
    best = np.argsort(-expected)[:5]
    assert expected.std() > 1e-3
    encoded = tf.io.encode_png(pixels)
    served = tf.saved_model.load(str(tmp_path / "exported" / "1")).signatures["serving_bytes"](
        image_bytes=encoded[None]
    )
    np.testing.assert_array_equal(served["classes"][0], best)
    np.testing.assert_allclose(served["scores"][0], expected[best], atol=1e-5)
    predictor, card = open_classifier(tmp_path / "exported" / "model.tflite")
    (scores,) = predictor.scores(card.preprocessing(encoded).numpy()[None])
    assert card.class_names == tuple(str(index) for index in range(10))
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_unknown_variants_are_named():
    with pytest.raises(ValueError, match=r"'resnet50'.*mixer_b16.*res_mlp_12"):
        initial_network(recipe_of(ModelSpec(variant="resnet50")), 3)


def test_the_command_line_opens_a_variant_by_name(shapes_only):
    model, card = open_variant("g_mlp_ti")
    assert model.count_params() == 5_867_328
    assert card.preprocessing == Preprocessing(interpolation="bicubic")


def test_a_variant_of_any_size_is_opened_at_the_size_of_its_preprocessing(shapes_only):
    model, card = open_variant("conv_mixer_1024_20")
    assert card.preprocessing == model.preprocessing
    assert model.input_shape[1:] == card.preprocessing.input_shape == (224, 224, 3)
