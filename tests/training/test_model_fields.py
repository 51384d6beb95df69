"""Every field of a recipe's model reaches the network, those of the appendix's variants from training to export."""

import dataclasses

import keras
import pytest

from keras_mixer import weights
from keras_mixer.data import load_model
from keras_mixer.export import export
from keras_mixer.training import initial_network, recipes, train
from keras_mixer.training.recipe import ModelSpec

BASE = ModelSpec(
    num_blocks=2,
    patch_size=4,
    hidden_dim=8,
    tokens_mlp_dim=6,
    channels_mlp_dim=10,
    image_size=(16, 16),
    channels=1,
)
NO_SIZES = dict.fromkeys(("num_blocks", "patch_size", "hidden_dim", "tokens_mlp_dim", "channels_mlp_dim"))
CHANGES = {
    "variant": {**NO_SIZES, "variant": "g_mlp_ti"},
    "num_blocks": {"num_blocks": 1},
    "patch_size": {"patch_size": 8},
    "hidden_dim": {"hidden_dim": 4},
    "tokens_mlp_dim": {"tokens_mlp_dim": 5},
    "channels_mlp_dim": {"channels_mlp_dim": 5},
    "image_size": {"image_size": (16, 32)},
    "channels": {"channels": 3},
    "stochastic_depth": {"stochastic_depth": 0.1},
    "dropout": {"dropout": 0.1},
    "weights": {"weights": "start.npz"},
    "untied": {"untied": True},
    "channel_groups": {"channel_groups": 2},
    "grouping": {"grouping": "project"},
    "tokens": {"tokens": (16, 4)},
}


def fingerprint(spec):
    keras.utils.set_random_seed(0)
    network = initial_network(spec, classes=3, name="network")
    return network.to_json(), [weight.numpy().tobytes() for weight in network.weights]


def test_every_field_changes_the_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert set(CHANGES) == {field.name for field in dataclasses.fields(ModelSpec)}
    keras.utils.set_random_seed(1)
    weights.save_npz(initial_network(BASE, classes=3, name="start"), "start.npz")
    base = fingerprint(BASE)
    assert fingerprint(BASE) == base
    for name, change in CHANGES.items():
        assert fingerprint(dataclasses.replace(BASE, **change)) != base, name


APPENDIX = {
    "untied": {"model.untied": "true"},
    "grouped pyramid": {
        "model.channel_groups": "2",
        "model.grouping": "project",
        "model.num_blocks": "3",
        "model.tokens": "[64, 16, 4]",
    },
}


@pytest.mark.parametrize("name", APPENDIX)
def test_the_appendix_trains_and_exports(name, tmp_path):
    small = {"model.hidden_dim": "8", "schedule.epochs": "null", "schedule.steps": "2", "schedule.warmup_steps": "1"}
    recipe = recipes.get("digits").override({**small, **APPENDIX[name], "data.eval_split": "test[:50]"})
    model, card = load_model(train(recipe, tmp_path / "run").folder)
    last = model.get_layer(f"MixerBlock_{recipe.model.num_blocks - 1}")
    for field in ("untied", "channel_groups", "grouping"):
        assert getattr(last, field) == getattr(recipe.model, field)
    assert last.output.shape[1] == (recipe.model.tokens or (64,))[-1]
    report = export(model, card, tmp_path / "exported", ["saved_model"])
    assert report.rows[-1].largest_score_difference < 1e-6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({**NO_SIZES, "variant": "g_mlp_ti", "untied": True}, "g_mlp_ti is no Mixer and has no untied"),
        ({**NO_SIZES, "variant": "mixer_s32", "tokens": (49,) * 8, "weights": "sam"}, "a Mixer without tokens"),
        ({"untied": True, "channel_groups": 2}, "`untied` and `channel_groups` exclude each other"),
        ({"tokens": (16,)}, "2 numbers for 2 blocks"),
    ],
)
def test_what_does_not_go_together_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        initial_network(dataclasses.replace(BASE, **changes), classes=3, name="network")
