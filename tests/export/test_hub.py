"""A trained model on the Hugging Face hub and back, by the hub's own client, on the loopback interface."""

import json
import re

import digit_models
import loopback_hub
import numpy as np
import pytest
import yaml

import keras_mixer
from keras_mixer import data, export, weights
from keras_mixer.cli import main
from keras_mixer.hub import HubAddress, preprocessing_in


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    card = data.ModelCard(
        "digits", tuple("0123456789"), digit_models.PREPROCESSING, data.DatasetSpec("digits", split="test")
    )
    data.save_model(digit_models.untrained(), card, folder)
    return folder


def pushed(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        main(["weights", "push", *map(str, arguments)])
    captured = capsys.readouterr()
    return exit_.value.code, captured.out, captured.err


def test_a_run_is_pushed_and_read_back(run, hub, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", loopback_hub.TOKEN)
    status, out, err = pushed(capsys, run, "hf://me/digits", "--limit", 50, "--licence", "apache-2.0")
    assert status == 0, err
    assert f"{hub.url}/me/digits" in out
    files = hub.repositories["me/digits"]
    assert sorted(files) == ["README.md", "config.json", "model.safetensors"]
    assert hub.commits == ["Upload digits"]

    model, card = data.load_model(run)
    twin = digit_models.untrained()
    twin.set_weights([np.zeros(weight.shape) for weight in twin.weights])
    weights.load(twin, "hf://me/digits")
    for mine, theirs in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    config = json.loads(files["config.json"])
    assert config["num_classes"] == 10
    assert config["pretrained_cfg"]["input_size"] == [1, 8, 8]
    read = preprocessing_in(HubAddress.parse("hf://me/digits").config(), keras_mixer.weights.InputPreprocessing())
    assert (read.input_shape, read.resize, read.mean) == (card.preprocessing.input_shape, "direct", 0.5)

    page = files["README.md"].decode()
    head = yaml.safe_load(page.split("---")[1])
    images, labels = next(keras_mixer.evaluation.labelled_batches(data.load(card.dataset), card.preprocessing, 50))
    accuracy = float((model.predict(images, verbose=0).argmax(axis=1) == labels).mean())
    (result,) = head["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == pytest.approx(accuracy)
    assert (result["dataset"]["name"], result["dataset"]["split"]) == ("digits", "test")
    assert (head["license"], head["library_name"]) == ("apache-2.0", "keras_mixer")
    assert f"{100 * accuracy:.2f} % on 50 images of digits, split test" in page

    model.get_layer("head").bias.assign(np.ones(10))
    export.push_to_hub(model, card, "hf://me/digits", limit=10)  # a further commit of the same repository
    assert len(hub.commits) == 2
    assert "Licence: unknown. Name it here" in hub.repositories["me/digits"]["README.md"].decode()
    weights.load(twin, "hf://me/digits@main")
    assert set(twin.get_layer("head").get_weights()[1]) == {1.0}


def test_without_a_dataset_the_accuracy_is_not_measured(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", loopback_hub.TOKEN)
    card = data.ModelCard("digits", tuple("0123456789"), digit_models.PREPROCESSING)
    export.push_to_hub(digit_models.untrained(), card, "hf://me/private", private=True)
    assert "Accuracy: not measured." in hub.repositories["me/private"]["README.md"].decode()
    assert "me/private" in hub.private


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://me/digits", "HF_TOKEN"),
        ("me/digits", r"hf://OWNER/REPO.*but got 'me/digits'"),
        ("hf://me/digits/model.npz", "is pushed to a repository"),
    ],
)
def test_errors_are_one_line(run, hub, capsys, address, message):
    status, _, err = pushed(capsys, run, address, "--limit", 5)
    assert status == 2
    (line,) = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert re.search(message, line)
    assert hub.repositories == {}
