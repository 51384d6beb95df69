"""Mixer's siblings in recipes and on the command line, by nothing but their names."""

import dataclasses

import goldens
import keras
import pytest

import keras_mixer
from keras_mixer import weights
from keras_mixer.cli.model_argument import open_model
from keras_mixer.data import ModelCard, Preprocessing
from keras_mixer.training import initial_network
from keras_mixer.training.recipe import ModelSpec


@pytest.mark.parametrize("variant", ["res_mlp_12", "g_mlp_ti", "conv_mixer_1024_20", "cycle_mlp_b1"])
def test_a_recipe_names_a_variant(variant):
    spec = ModelSpec(variant=variant, image_size=(32, 32), stochastic_depth=0.1, dropout=0.1)
    if variant == "conv_mixer_1024_20":
        spec = ModelSpec(variant=variant, image_size=(28, 28))
    network = initial_network(spec, 3, "network")
    assert network.output_shape == (None, 3)
    assert network.get_layer("head").activation.__name__ == "linear"


def test_a_recipe_starts_from_a_file(tmp_path):
    start = initial_network(ModelSpec(variant="cycle_mlp_b1", image_size=(32, 32)), 3, "start")
    start.save_weights(tmp_path / "start.weights.h5")
    spec = ModelSpec(variant="cycle_mlp_b1", image_size=(64, 32), weights=str(tmp_path / "start.weights.h5"))
    assert goldens.same(goldens.snapshot(start), goldens.snapshot(initial_network(spec, 3, "network")))


@pytest.mark.parametrize(
    "spec",
    [
        ModelSpec(variant="g_mlp_ti", image_size=(32, 32)),
        ModelSpec(num_blocks=1, patch_size=8, hidden_dim=8, tokens_mlp_dim=4, channels_mlp_dim=8, image_size=(32, 32)),
    ],
    ids=["sibling", "sizes"],
)
def test_a_head_of_other_classes_starts_fresh(spec, tmp_path, caplog):
    start = initial_network(spec, 5, "start")
    start.get_layer("head").kernel.assign(keras.ops.ones(start.get_layer("head").kernel.shape))
    weights.save_npz(start, tmp_path / "start.npz")
    network = initial_network(dataclasses.replace(spec, weights=str(tmp_path / "start.npz")), 3, "network")
    assert "head for 3 classes starts fresh" in caplog.text
    assert goldens.same(goldens.snapshot(network)[:-2], goldens.snapshot(start)[:-2])
    assert not goldens.snapshot(network)[-2].any()


def test_a_trained_sibling_keeps_its_rates(tmp_path):
    model = keras_mixer.ResMLP(
        num_blocks=2, patch_size=8, hidden_dim=8, input_shape=(32, 32, 3), classes=2, stochastic_depth=0.2
    )
    model.save(tmp_path / "model.keras")
    ModelCard("trained", ("ant", "bee"), Preprocessing((32, 32))).save(tmp_path / "model.json")
    spec = ModelSpec(weights=str(tmp_path), image_size=(32, 32))
    network = initial_network(spec, 2, "network")
    assert goldens.same(goldens.snapshot(network)[:-2], goldens.snapshot(model)[:-2])
    assert network.get_layer("block_1_1_stochastic_depth").rate == pytest.approx(0.2)
    for changed in ({"stochastic_depth": 0.1}, {"dropout": 0.1}):
        with pytest.raises(ValueError, match=r"no Mixer: it keeps.*model\.stochastic_depth and model\.dropout to 0"):
            initial_network(dataclasses.replace(spec, **changed), 2, "network")


def test_unknown_variants_are_named():
    with pytest.raises(ValueError, match=r"'resnet50'.*mixer_b16.*res_mlp_12"):
        initial_network(ModelSpec(variant="resnet50"), 3, "network")


def test_the_command_line_opens_a_variant_by_name():
    model, card = open_model("g_mlp_ti")
    assert model.count_params() == 5_867_328
    assert card.preprocessing.image_size == (224, 224)
