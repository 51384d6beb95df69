"""Mixer's siblings in recipes and on the command line, by nothing but their names."""

import goldens
import pytest

from keras_mixer.cli.model_argument import open_model
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


def test_unknown_variants_are_named():
    with pytest.raises(ValueError, match=r"'resnet50'.*mixer_b16.*res_mlp_12"):
        initial_network(ModelSpec(variant="resnet50"), 3, "network")


def test_the_command_line_opens_a_variant_by_name():
    model, card = open_model("g_mlp_ti")
    assert model.count_params() == 5_867_328
    assert card.preprocessing.image_size == (224, 224)
