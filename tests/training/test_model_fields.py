"""Every setting of a recipe's model reaches the network, and the appendix's variants go from training to export."""

import json

import keras
import pytest

import keras_mixer
from keras_mixer import weights
from keras_mixer.data import ModelCard, Preprocessing, load_model, save_model
from keras_mixer.export import export
from keras_mixer.training import initial_network, recipes, train
from keras_mixer.training.network import freeze_body

SIZES = {"num_blocks": 2, "patch_size": 4, "hidden_dim": 8, "tokens_mlp_dim": 6, "channels_mlp_dim": 10}
BASE = recipes.get("digits").override(
    {"preprocessing.image_size": "[16, 16]", **{f"model.{name}": str(size) for name, size in SIZES.items()}}
)
NO_SIZES = {f"model.{name}": "null" for name in SIZES}
CHANGES = {
    "variant": {**NO_SIZES, "model.variant": "g_mlp_ti"},
    "architecture": {**NO_SIZES, "model.architecture": "g_mlp"}
    | {"model.num_blocks": 1, "model.patch_size": 8, "model.hidden_dim": 4},
    "num_blocks": {"model.num_blocks": 1},
    "patch_size": {"model.patch_size": 8},
    "hidden_dim": {"model.hidden_dim": 4},
    "tokens_mlp_dim": {"model.tokens_mlp_dim": 5},
    "channels_mlp_dim": {"model.channels_mlp_dim": 5},
    "image_size": {"model.image_size": [16, 32]},
    "channels": {"model.channels": 3},
    "stochastic_depth": {"model.stochastic_depth": 0.1},
    "dropout": {"model.dropout": 0.1},
    "weights": {"model.weights": "start.npz"},
    "untied": {"model.untied": "true"},
    "channel_groups": {"model.channel_groups": 2},
    "grouping": {"model.grouping": "project"},
    "tokens": {"model.tokens": [16, 4]},
}


def changed(changes):
    return BASE.override({name: str(value) for name, value in changes.items()})


def fingerprint(recipe):
    keras.utils.set_random_seed(0)
    network = initial_network(recipe, classes=3)
    return network.to_json(), [weight.numpy().tobytes() for weight in network.weights]


def test_every_setting_changes_the_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(1)
    weights.save_npz(initial_network(BASE, classes=3), "start.npz")
    base = fingerprint(BASE)
    assert fingerprint(BASE) == base
    for name, change in CHANGES.items():
        assert fingerprint(changed(change)) != base, name


@pytest.mark.parametrize(
    ("architecture", "arguments"),
    [
        ("res_mlp", {"num_blocks": 1, "patch_size": 8, "hidden_dim": 8, "mlp_ratio": 3, "layer_scale": 0.1}),
        ("conv_mixer", {"num_blocks": 1, "patch_size": 8, "hidden_dim": 8, "kernel_size": 3, "activation": "relu"}),
    ],
)
def test_any_architecture_takes_sizes_of_its_own(architecture, arguments):
    changes = {f"model.{name}": value for name, value in arguments.items()}
    network = initial_network(changed({**NO_SIZES, "model.architecture": architecture, **changes}), classes=3)
    expected = build(architecture)(**arguments, input_shape=(16, 16, 1), classes=3, classifier_activation=None)
    assert [weight.shape for weight in network.weights] == [weight.shape for weight in expected.weights]


def build(architecture):
    return {"res_mlp": keras_mixer.ResMLP, "conv_mixer": keras_mixer.ConvMixer}[architecture]


def test_a_frozen_body_keeps_its_weights_and_the_saved_model_can_train(tmp_path):
    weights.save_npz(initial_network(BASE, classes=10), tmp_path / "start.npz")
    recipe = changed(
        {
            "model.weights": tmp_path / "start.npz",
            "model.frozen": "true",
            "schedule.epochs": "null",
            "schedule.steps": 2,
            "schedule.warmup_steps": 0,
            "data.train_split": "train[:64]",
            "data.test_split": "test[:20]",
            "data.eval_split": "train[64:80]",
        }
    )
    result = train(recipe, tmp_path / "run")
    model, card = load_model(result.folder)
    start = initial_network(recipe, classes=10)
    before, after = ({weight.path: weight.numpy() for weight in one.weights} for one in (start, model))
    moved = {path for path in before if not (before[path] == after[path]).all()}
    assert moved == {"head/kernel", "head/bias"}
    assert len(model.trainable_variables) == len(model.weights)
    assert card.dataset.split == "test[:20]"
    measured = json.loads((result.folder / "test.json").read_text())
    assert measured["accuracy"] == result.test_accuracy


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
    arguments = {"untied": False, "channel_groups": 1, "grouping": "concat", "tokens": (64,)} | recipe.model.arguments
    last = model.get_layer(f"MixerBlock_{arguments['num_blocks'] - 1}")
    for field in ("untied", "channel_groups", "grouping"):
        assert getattr(last, field) == arguments[field]
    assert last.output.shape[1] == arguments["tokens"][-1]
    report = export(model, card, tmp_path / "exported", ["saved_model"])
    assert report.rows[-1].largest_score_difference < 1e-6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({**NO_SIZES, "model.variant": "g_mlp_ti", "model.untied": "true"}, "g_mlp_ti has no argument untied"),
        ({**NO_SIZES, "model.architecture": "vit"}, "Unknown variant 'vit'.*Known architectures: mixer, "),
        ({"model.hidden_dim": "null"}, "needs all sizes of mixer; missing: hidden_dim"),
        ({"model.variant": "mixer_s16"}, "The variant mixer_s16 has its own num_blocks, patch_size, hidden_dim"),
        (
            {**NO_SIZES, "model.variant": "mixer_s32", "model.tokens": [49] * 8, "model.weights": "sam"},
            "a mixer_s32 without tokens",
        ),
        ({"model.untied": "true", "model.channel_groups": 2}, "`untied` and `channel_groups` cannot be used together"),
        ({"model.tokens": [16]}, "must list the number of tokens after each of the 2 blocks"),
    ],
)
def test_what_does_not_go_together_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        initial_network(changed(changes), classes=3)


def test_a_trained_model_gets_the_rates_of_a_new_one(tmp_path):
    card = ModelCard("digits", [str(label) for label in range(10)], Preprocessing(8, channels=1))
    arguments = dict(SIZES, num_blocks=3, input_shape=(8, 8, 1), classes=10)
    save_model(keras_mixer.Mixer(**arguments), card, tmp_path)
    rates = {"model.stochastic_depth": "0.5", "model.weights": str(tmp_path)}
    recipe = recipes.get("digits").override({f"model.{name}": "null" for name in SIZES} | rates)
    found, expected = initial_network(recipe, 10), keras_mixer.Mixer(**arguments, stochastic_depth=0.5)
    for number in range(3):
        block = f"MixerBlock_{number}"
        assert found.get_layer(block).stochastic_depth == expected.get_layer(block).stochastic_depth


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`:UserWarning")  # such as the stem
def test_a_quantised_model_is_not_trained(tmp_path):
    model = keras_mixer.Mixer(**SIZES, input_shape=(8, 8, 1), classes=10)
    model.quantize("int8")
    save_model(model, ModelCard("digits", list("0123456789"), Preprocessing(8, channels=1)), tmp_path)
    start = NO_SIZES | {"model.weights": str(tmp_path)}
    with pytest.raises(ValueError, match=r"is quantised \(the layer .*int8\).*before `model.quantize`"):
        initial_network(recipes.get("digits").override(start), 10)


def test_frozen_layers_of_the_start_are_named(tmp_path, caplog):
    model = keras_mixer.Mixer(**SIZES, input_shape=(8, 8, 1), classes=10)
    model.get_layer("stem").trainable = False
    save_model(model, ModelCard("digits", list("0123456789"), Preprocessing(8, channels=1)), tmp_path)
    network = initial_network(recipes.get("digits").override(NO_SIZES | {"model.weights": str(tmp_path)}), 10)
    assert not network.get_layer("stem").trainable
    (record,) = caplog.records
    assert "1 layer" in record.getMessage()
    assert "'stem'" in record.getMessage()


def test_a_frozen_body_leaves_the_head():
    network = initial_network(BASE, classes=3)
    freeze_body(network)
    assert {layer.name for layer in network.layers if layer.trainable and layer.weights} == {"head"}
    freeze_body(network, frozen=False)
    assert all(layer.trainable for layer in network.layers)
