"""The weights that come with the package: whole, small, and as good as they were."""

import json
import pathlib
import re

import numpy as np
import PIL.Image
import pytest

import keras_mixer
from keras_mixer import weights
from keras_mixer.cli import main
from keras_mixer.weights import find
from keras_mixer.weights.published.cache import cached_path

ENTRY = find("mixer_nano", "cifar10")
PHOTOGRAPHS = pathlib.Path(__file__).parents[2] / "data" / "cifar10"  # the first four of each class of the test split


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """No cache, and a mirror that nobody answers at."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_MIXER_WEIGHTS_BASE_URL", "http://127.0.0.1:9")


@pytest.mark.backends
def test_they_load_without_a_network_and_fit():
    model = keras_mixer.MixerNano(weights="cifar10")
    assert model.count_params() == 1_132_170
    assert model.preprocessing.image_size == (32, 32)
    assert cached_path(ENTRY).stat().st_size < 5_000_000
    probabilities = model.predict(np.zeros((1, 32, 32, 3), "float32"), verbose=0)
    assert probabilities.shape == (1, len(ENTRY.class_names))


def test_their_recipe_history_and_card_belong_to_one_run():
    from keras_mixer.training import Recipe

    path = cached_path(ENTRY)
    recipe = Recipe.from_json(path.with_suffix(".json").read_text())
    assert recipe.model.variant == "mixer_nano"
    assert recipe.data.eval_split == "validation"  # the test split decided nothing
    rows = path.with_suffix(".csv").read_text().splitlines()
    assert float(rows[-1].split(",")[1]) == pytest.approx(recipe.schedule.epochs, abs=0.01)
    card = path.with_suffix(".md").read_text()
    assert f"{recipe.schedule.epochs:g} epochs" in card
    (fine_epochs,) = re.findall(r"benchmarks\.nano RUN IMAGES --fine-epochs ([\d.]+)", card)
    assert f"then {fine_epochs} epochs of crops and flips" in card
    # The recipe of that name has gone on since.
    assert "recipe in the .json file" in ENTRY.source


@pytest.mark.backends
def test_they_say_of_photographs_what_they_said_when_they_were_made():
    """The scores that `benchmarks/nano.py` recorded, by the evaluation's pipeline; here by no part of it."""
    recorded = json.loads((PHOTOGRAPHS / "scores.json").read_text())
    assert len(recorded) == 40
    images = np.stack([np.asarray(PIL.Image.open(PHOTOGRAPHS / path), "float32") for path in recorded])
    scores = keras_mixer.MixerNano(weights="cifar10").predict(keras_mixer.preprocess_input(images), verbose=0)
    expected = np.array(list(recorded.values()))
    np.testing.assert_array_equal(scores.argmax(axis=1), expected.argmax(axis=1))
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_they_name_photographs_as_well_as_recorded(tmp_path, capsys):
    folder = tmp_path / "nano"
    with pytest.raises(SystemExit, match="0"):
        main(["weights", "save", "mixer_nano", "cifar10", str(folder), "--dataset", str(PHOTOGRAPHS)])
    capsys.readouterr()
    with pytest.raises(SystemExit, match="0"):
        main(["evaluate", str(folder), "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert row["examples"] == 40
    recorded = json.loads((PHOTOGRAPHS / "scores.json").read_text())
    right = [ENTRY.class_names[np.argmax(scores)] == path.split("/")[1] for path, scores in recorded.items()]
    assert row["top1"] == np.mean(right)


def test_a_variant_is_evaluated_by_its_own_classes(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["evaluate", "mixer_nano", "--weights", "cifar10", "--dataset", str(PHOTOGRAPHS), "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert row["top1"] > 0.5


def test_the_list_says_that_they_are_here(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["weights", "list", "--variant", "mixer_nano", "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert row["cached"]
    assert row["url"] is None
    assert weights.available("mixer_nano") == [ENTRY]
