"""The recipes against the paper's numbers, and what a recipe refuses."""

import dataclasses
import json
import re

import numpy as np
import pytest

from keras_mixer.card import ModelCard
from keras_mixer.preprocessing import Preprocessing
from keras_mixer.training import Recipe, recipes
from keras_mixer.training.recipe import DataSpec, ModelSpec, OptimizerSpec, ScheduleSpec

# Recipe: epochs, learning rate, weight decay, RandAugment's magnitude, mixup, stochastic depth.
PRETRAINING = {
    "imagenet_b16": (300, 0.001, 0.1, 15, 0.5, 0.1),
    "imagenet_l16": (300, 0.001, 0.1, 15, 0.5, 0.1),
    "imagenet21k_b16": (300, 0.001, 0.1, 10, 0.2, 0.1),
    "imagenet21k_l16": (300, 0.001, 0.1, 20, 0.5, 0.1),
    "jft_s16": (5, 0.003, 0.03, None, 0, 0),
    "jft_b16": (7, 0.003, 0.03, None, 0, 0),
    "jft_l16": (7, 0.001, 0.03, None, 0, 0),
    "jft_h14": (14, 0.001, 0.03, None, 0, 0),
}
FINETUNING = {
    "finetune_imagenet": 20_000,
    "finetune_cifar10": 10_000,
    "finetune_cifar100": 10_000,
    "finetune_pets": 500,
    "finetune_flowers": 500,
    "finetune_vtab": 2_500,
}


@pytest.mark.parametrize("name", PRETRAINING)
def test_pretraining(name):
    epochs, rate, decay, magnitude, mixup, depth = PRETRAINING[name]
    recipe = recipes.get(name)
    assert (recipe.schedule.epochs, recipe.schedule.warmup_steps, recipe.schedule.decay) == (epochs, 10_000, "linear")
    optimizer = recipe.optimizer
    assert (optimizer.name, optimizer.learning_rate, optimizer.weight_decay) == ("adamw", rate, decay)
    assert (optimizer.beta_1, optimizer.beta_2, optimizer.global_clipnorm) == (0.9, 0.999, 1.0)
    augmentation = recipe.augmentation
    assert (augmentation.crop, augmentation.flip, augmentation.mixup) == ("inception", True, mixup)
    assert augmentation.randaugment_layers == (0 if magnitude is None else 2)
    assert magnitude is None or augmentation.randaugment_magnitude == magnitude
    assert recipe.preprocessing.image_size == (224, 224)
    assert recipe.model.arguments == ({"stochastic_depth": depth} if depth else {})
    assert recipe.batch_size == 4096
    assert recipe.model.variant == "mixer_" + name.rsplit("_", 1)[1]


@pytest.mark.parametrize("name", FINETUNING)
def test_finetuning(name):
    recipe = recipes.get(name)
    schedule, optimizer = recipe.schedule, recipe.optimizer
    assert (schedule.steps, schedule.decay, recipe.batch_size) == (FINETUNING[name], "cosine", 512)
    assert 0 < schedule.warmup_steps <= 500
    assert (optimizer.name, optimizer.momentum, optimizer.weight_decay, optimizer.global_clipnorm) == ("sgd", 0.9, 0, 1)
    assert optimizer.learning_rate == recipe.learning_rate_grid[0]
    assert set(recipe.learning_rate_grid) == {0.003, 0.01, 0.03} | (set() if name == "finetune_vtab" else {0.06})
    assert recipe.model.weights == "imagenet21k"


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_each_says_what_to_expect_of_it_and_on_what(name):
    assert recipes.get(name).name == name
    assert re.search(r"measured|Measured", recipes.NOTES[name]["expected"])
    assert recipes.NOTES[name]["hardware"]


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_json_round_trip(name):
    recipe = recipes.get(name)
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_the_cifar10_model_is_below_a_million_parameters():
    from keras_mixer.training import initial_network

    assert initial_network(recipes.get("cifar10"), classes=10).count_params() < 1_000_000


def test_override_parses_by_type():
    changed = recipes.get("digits").override(
        {
            "optimizer.learning_rate": "1",
            "model.image_size": "[16, 24]",
            "data.dataset": "./my folder",
            "ema_momentum": "0.99",
            "optimizer.global_clipnorm": "null",
            "augmentation.flip": "true",
            "learning_rate_grid": "[0.1, 1]",
        }
    )
    assert changed.optimizer.learning_rate == 1.0
    assert isinstance(changed.optimizer.learning_rate, float)
    assert changed.preprocessing.image_size == (16, 24)
    assert changed.data.name == "./my folder"
    assert changed.ema_momentum == 0.99
    assert changed.optimizer.global_clipnorm is None
    assert changed.augmentation.flip is True
    assert changed.learning_rate_grid == (0.1, 1.0)


def test_a_value_that_is_written_as_json_has_the_same_consequences(tmp_path):
    digits = recipes.get("digits")
    assert digits.override({"data.name": '"./f"'}) == digits.override({"data.name": "./f"})
    assert digits.override({"data.name": '"./f"'}).data.train_split == "auto"
    ModelCard("start", ("a", "b"), Preprocessing(image_size=(16, 24))).save(tmp_path / "model.json")
    (tmp_path / "model.keras").touch()
    start = digits.override({"model.weights": json.dumps(str(tmp_path))})
    assert start == digits.override({"model.weights": str(tmp_path)})
    assert (start.preprocessing.image_size, start.preprocessing.channels, start.model.arguments) == ((16, 24), 3, {})
    finetune = recipes.get("finetune")
    assert finetune.override({"schedule.epochs": " null"}) == finetune
    with pytest.raises(ValueError, match=r"model\.weights must be of type str, but got 5"):
        digits.override({"model.weights": "5"})


def test_names_of_version_0_1_and_arguments_of_any_builder_can_be_set():
    changed = recipes.get("finetune_pets").override(
        {
            "model.variant": "null",
            "model.weights": "None",
            "model.architecture": "res_mlp",
            "model.mlp_ratio": "3",
            "model.arguments.layer_scale": "0.1",
            "model.stochastic_depth": "0.2",
            "model.channels": "1",
            "data.resize": "squash",
            "data.test_split": "test[:10%]",
            "augmentation.crop_area": "[0.2, 1]",
            "preprocessing.crop_share": "1",
        }
    )
    assert changed.model == ModelSpec(
        architecture="res_mlp", arguments={"mlp_ratio": 3, "layer_scale": 0.1, "stochastic_depth": 0.2}
    )
    assert (changed.preprocessing.channels, changed.preprocessing.resize, changed.preprocessing.crop_share) == (
        *(1, "squash", 1.0),
    )
    assert changed.data.test_split == "test[:10%]"
    assert changed.augmentation.crop_area == (0.2, 1.0)
    assert Recipe.from_json(changed.to_json()) == changed
    plain = dict.fromkeys(("model.mlp_ratio", "model.layer_scale"), "null") | {"model.stochastic_depth": "0"}
    assert changed.override(plain).model == ModelSpec(architecture="res_mlp")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.architecture": "res_mlp", "model.variant": "mixer_b16"}, "a variant or an architecture, but got"),
        ({"model.frozen": "true"}, "set model.weights for the other layers"),
        ({"model.tokens": "[NaN]"}, "model.arguments must hold JSON values"),
        ({"preprocessing.mean": "[0.1, 0.2]"}, "`mean` is one number or one per channel"),
        ({"augmentation.mixup": "-1"}, "`mixup` is at least 0"),
        ({"optimizer.lr": "1"}, r"Unknown recipe field 'optimizer.lr'.*optimizer.learning_rate"),
        ({"optimizer": "1"}, "Unknown recipe field 'optimizer'"),
        ({"name.first": "1"}, "Unknown recipe field 'name.first'"),
        ({"batch_size": "many"}, "batch_size must be of type int, but got 'many'"),
        ({"batch_size": "true"}, "batch_size must be of type int, but got True"),
        ({"batch_size": "1.5"}, "batch_size must be of type int, but got 1.5"),
        ({"model.image_size": "[1, 2, 3]"}, "preprocessing.image_size must be a list such as"),
        ({"schedule.steps": "5"}, "Exactly one of schedule.epochs and schedule.steps"),
        ({"execution.micro_batches": "3"}, "execution.micro_batches must divide batch_size=64"),
        ({"execution.steps_per_execution": "0"}, "execution.steps_per_execution must be at least 1"),
        ({"batch_size": "-64"}, "batch_size must be at least 1"),
        (
            {"execution.precision": "mixed_float16"},
            "precision must be one of float32, mixed_bfloat16, but.*scaling",
        ),
        ({"execution.precision": "bfloat16"}, "precision must be one of float32, mixed_bfloat16, but.*would not move"),
        ({"optimizer.name": "adam"}, "optimizer.name must be one of adamw, muon, sgd, but got 'adam'"),
        ({"schedule.decay": "exp"}, "schedule.decay must be one of linear, cosine, constant, but got 'exp'"),
        ({"execution.pipeline": "gpu"}, "execution.pipeline must be one of auto, host, device, but got 'gpu'"),
        ({"class_weights": "even"}, "class_weights must be one of balanced, null, but got 'even'"),
        ({"label_smoothing": "1.5"}, r"label_smoothing must be in \[0, 1\)"),
        ({"seed": "2147483648"}, r"seed must be from 0 to 2\*\*31 - 1, but got 2147483648"),
        ({"seed": "-1"}, "seed must be from 0"),
        ({"schedule.epochs": "0"}, "schedule.epochs must be above 0, but got 0.0"),
        ({"optimizer.learning_rate": "-1"}, r"optimizer.learning_rate must be at least 0, but got -1.0"),
        ({"optimizer.weight_decay": "-0.1"}, "optimizer.weight_decay must be at least 0"),
        ({"optimizer.beta_1": "2"}, r"optimizer.beta_1 must be in \[0, 1\), but got 2.0"),
        ({"optimizer.beta_2": "1"}, r"optimizer.beta_2 must be in \[0, 1\)"),
        ({"optimizer.momentum": "-1"}, r"optimizer.momentum must be in \[0, 1\)"),
        ({"optimizer.epsilon": "0"}, "optimizer.epsilon must be above 0"),
        ({"optimizer.global_clipnorm": "0"}, "optimizer.global_clipnorm must be above 0, or null"),
    ],
)
def test_bad_overrides(changes, message):
    with pytest.raises(ValueError, match=message):
        recipes.get("digits").override(changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "must be a JSON object"),
        ('{"name": "a", "optimiser": {}}', r"Recipe has the fields .*optimizer.*unknown: \['optimiser'\]"),
        ('{"name": "a", "schedule": {"length": 3}}', r"schedule.steps.*unknown: \['schedule.length'\]"),
        ('{"schedule": {"steps": 1}}', r"missing: \['name'\]"),
    ],
)
def test_bad_json(text, message):
    with pytest.raises(ValueError, match=message):
        Recipe.from_json(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1.5}, "seed must be of type int, but got 1.5"),
        ({"batch_size": "256"}, "batch_size must be of type int, but got '256'"),
        ({"schedule": ScheduleSpec(steps=9, warmup_steps=2.0)}, r"schedule\.warmup_steps must be of type int"),
        ({"optimizer": OptimizerSpec(learning_rate="0.1")}, r"optimizer\.learning_rate must be a finite number"),
        ({"model": ModelSpec(weights="imagenet1k", frozen="no")}, r"model\.frozen must be of type bool, but got 'no'"),
        ({"data": DataSpec(corrupt_limit=True)}, r"data\.corrupt_limit must be of type int, but got True"),
    ],
)
def test_fields_of_a_wrong_type_in_python(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(recipes.get("digits"), **changes)


def test_numbers_of_numpy_become_those_of_python():
    made = dataclasses.replace(recipes.get("digits"), seed=np.int64(3), ema_momentum=np.float32(0.5))
    assert Recipe.from_json(made.to_json()) == made
    assert (type(made.seed), type(made.ema_momentum)) == (int, float)


def test_an_unknown_recipe_names_the_known_ones():
    with pytest.raises(ValueError, match=r"Unknown recipe 'imagenet'. Known recipes: .*imagenet_b16, .*digits"):
        recipes.get("imagenet")


def test_differences_ignore_how_devices_run_it_and_what_stops_or_names_it():
    recipe = recipes.get("digits")
    nothing = {
        "name": "other",
        "eval_batch_size": "7",
        "learning_rate_grid": "[0.1]",
        "data.corrupt_limit": "3",
        "execution.micro_batches": "2",
        "execution.checkpoint_steps": "7",
    }
    assert recipe.differences(recipe.override(nothing)) == []
    assert recipe.differences(recipe.override({"eval_steps": "7"})) == ["eval_steps"]
    assert recipe.differences(recipe.override({"execution.precision": "mixed_bfloat16"})) == ["execution.precision"]
    assert recipe.differences(dataclasses.replace(recipe, schedule=ScheduleSpec(steps=5))) == [
        *("schedule.epochs", "schedule.steps", "schedule.warmup_steps", "schedule.decay")
    ]


@pytest.mark.parametrize("given", ["run", "run/", "run/recipe.json", "./run"])
def test_the_recipe_of_a_run_is_read_from_its_folder_or_its_file(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.json").write_text(recipes.get("imagenet_b16").to_json())
    assert recipes.read(given) == recipes.get("imagenet_b16")
