"""The commands of the paper's experiments on the embedded digits, from end to end."""

import dataclasses
import functools
import itertools
import json
import pathlib
import re
import shutil

import digit_models
import family
import keras
import numpy as np
import pytest
from PIL import Image

import keras_mixer
from keras_mixer import data, evaluation, reported, visualization
from keras_mixer.cli import invariance, main
from keras_mixer.models import multiply_adds

PHOTO = pathlib.Path(__file__).parents[1] / "data" / "digits" / "8_sample1.png"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of the embedded digits as training leaves it, with random weights."""
    folder = tmp_path_factory.mktemp("digits")
    digit_models.untrained().save(folder / "model.keras")
    names = tuple(str(digit) for digit in range(10))
    data.ModelCard("digits", names, digit_models.PREPROCESSING, data.DatasetSpec("digits", split="test")).save(
        folder / "model.json"
    )
    return folder


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return exit_.value.code, captured.out, captured.err


def test_fewshot_looks_at_the_chosen_images_alone_and_finds_what_all_would_give(run, capsys, monkeypatch):
    model, card = data.load_model(run)
    features = evaluation.feature_model(model)
    extract, seen = evaluation.extract_features, []
    train, test = (
        extract(features, evaluation.labelled_batches(data.load("digits", split), card.preprocessing, 500, limit=most))
        for split, most in (("train", None), ("test", 100))
    )
    expected = evaluation.few_shot_probe(train, test, 10, shots=[1, 25], seeds=range(2))

    def watched(*arguments):
        seen.append(extract(*arguments))
        return seen[-1]

    monkeypatch.setattr(evaluation, "extract_features", watched)
    shots = ("--shots", 1, "--shots", 25, "--seeds", 2)
    status, out, _ = call(capsys, "fewshot", run, *shots, "--limit", 100, "--json")
    few, many = json.loads(out)
    assert status == 0
    assert (few["shots"], many["shots"], few["penalty"]) == (1, 25, 1024)
    assert [row["accuracies"] for row in (few, many)] == [list(result.accuracies) for result in expected]
    assert few["top-1 %"] == pytest.approx(100 * np.mean(few["accuracies"]))
    assert 10 < few["top-1 %"] < many["top-1 %"]
    (_, of_train), (_, of_test) = seen
    assert 25 * 10 < len(of_train) <= 2 * 25 * 10
    assert len(of_test) == 100


def test_fewshot_leaves_out_unreadable_images(run, tmp_path, capsys):
    random = np.random.default_rng(0)
    for split, label, number in itertools.product(("train", "test"), "0123456789", range(4)):
        (tmp_path / split / label).mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(pixels).save(tmp_path / split / label / f"{number}.png")
    command = ("fewshot", run, "--dataset", tmp_path, "--shots", 4, "--seeds", 1, "--json")
    _, expected, _ = call(capsys, *command)
    for split, label in itertools.product(("train", "test"), "38"):
        (tmp_path / split / label / "1a.png").write_bytes(b"no image")
    status, _, err = call(capsys, *command)
    assert status == 2
    assert "--corrupt-limit 2" in err
    assert call(capsys, *command, "--corrupt-limit", 2)[:2] == (0, expected)


def test_fewshot_takes_no_shot_of_the_test_images(run, tmp_path, capsys, monkeypatch):
    for label, number in itertools.product("0123456789", range(5)):
        (tmp_path / label).mkdir(exist_ok=True)
        Image.new("L", (8, 8), 50 * number).save(tmp_path / label / f"{number}.png")
    command = ("fewshot", run, "--dataset", tmp_path, "--seeds", 1, "--json")
    counts, choose = [], evaluation.choose_shots

    def watched(labels, *arguments):
        counts.append(np.bincount(labels).tolist())
        return choose(labels, *arguments)

    monkeypatch.setattr(evaluation, "choose_shots", watched)
    assert call(capsys, *command, "--train-split", "train", "--test-split", "train[80%:]", "--shots", 1)[0] == 0
    assert counts == [[4] * 10]
    status, _, err = call(capsys, *command, "--train-split", "train", "--test-split", "train", "--shots", 1)
    assert status == 2
    assert "name other splits" in err


def test_fewshot_sweeps_penalties(run, capsys):
    _, out, _ = call(capsys, "fewshot", run, "--shots", 2, "--seeds", 1, "--sweep", "--json")
    assert [row["penalty"] for row in json.loads(out)] == [2.0**exponent for exponent in range(-10, 20)]


ATTRIBUTIONS = ["occlusion.png", "grad_cam.png", "integrated_gradients.png", "attribution.npz"]


def test_visualize_writes_every_picture_and_the_pairing(run, tmp_path, capsys):
    model, card = data.load_model(run)
    of_scale_0_1 = copy_of(run, tmp_path / "run", model)
    preprocessing = dataclasses.replace(card.preprocessing, mean=0.0, std=1.0)
    dataclasses.replace(card, preprocessing=preprocessing).save(of_scale_0_1 / "model.json")
    photo = tmp_path / "photo.png"
    Image.fromarray(np.diag(np.arange(8, dtype=np.uint8) * 30)).save(photo)
    folder = tmp_path / "pictures"
    status, out, _ = call(capsys, "visualize", of_scale_0_1, "--output", folder, "--image", photo, "--json")
    names = ["token_units.png", "token_units.json", "stem_units.png", "influence.png", *ATTRIBUTIONS, "features.png"]
    assert status == 0
    assert [row["file"] for row in json.loads(out)] == [str(folder / name) for name in names]
    for name in names:
        if name.endswith(".png"):
            pixels = np.asarray(Image.open(folder / name).convert("L"))
            assert pixels.std() > 1
            if name not in ("token_units.png", "stem_units.png"):
                assert (pixels == 0).mean() > 0.1  # black stays black, which is 0 on this scale and not on [-1, 1]
    pairing = json.loads((folder / "token_units.json").read_text())
    assert list(pairing) == ["MixerBlock_0", "MixerBlock_1"]
    expected = visualization.pair_units(visualization.token_mixing_units(model, 1))
    assert pairing["MixerBlock_1"]["pairs"] == expected.units.tolist()
    assert sorted(np.ravel(pairing["MixerBlock_0"]["pairs"])) == list(range(16))


def test_visualize_draws_the_blocks_of_a_pyramid_that_read_patches(run, tmp_path, capsys):
    model = keras_mixer.Mixer(
        num_blocks=3,
        patch_size=2,
        hidden_dim=8,
        tokens_mlp_dim=6,
        channels_mlp_dim=8,
        input_shape=(8, 8, 1),
        classes=10,
        tokens=(16, 4, 4),
    )
    pyramid = copy_of(run, tmp_path / "pyramid", model)
    status, out, _ = call(capsys, "visualize", pyramid, "--output", tmp_path, "--json")
    assert status == 0
    assert list(json.loads((tmp_path / "token_units.json").read_text())) == ["MixerBlock_0", "MixerBlock_1"]
    assert sum("influence" in row["file"] for row in json.loads(out)) == 4
    # The second puts out tokens that have no place in a photo.
    status, out, _ = call(capsys, "visualize", pyramid, "--output", tmp_path, "--block", 1, "--image", PHOTO, "--json")
    assert status == 0
    assert {pathlib.Path(row["file"]).stem.rstrip("0123") for row in json.loads(out)} == {
        "token_units",
        "stem_units",
        "occlusion",
        "grad_cam",
        "integrated_gradients",
        "attribution",
    }


def test_visualize_explains_other_architectures_by_attribution(run, tmp_path, capsys):
    model = family.randomised(family.tiny("vip", input_shape=(8, 8, 1), classes=10, patch_size=1, segment_dims=(8, 4)))
    other = copy_of(run, tmp_path / "other", model)
    status, out, err = call(capsys, "visualize", other, "--output", tmp_path, "--image", PHOTO, "--json")
    assert status == 0, err
    assert [row["file"] for row in json.loads(out)] == [str(tmp_path / name) for name in ATTRIBUTIONS]
    with np.load(tmp_path / "attribution.npz") as arrays:
        shapes = {name: arrays[name].shape for name in arrays}
    assert shapes == {"occlusion": (8, 8), "grad_cam": (4, 4), "integrated_gradients": (8, 8, 1)}
    status, _, err = call(capsys, "visualize", other, "--output", tmp_path, "--block", 0)
    assert (status, "has 0 Mixer blocks" in err) == (2, True)


def copy_of(run, folder, model):
    """A run of another model on the same images."""
    folder.mkdir()
    shutil.copy(run / "model.json", folder)
    model.save(folder / "model.keras")
    return folder


@pytest.mark.parametrize("command", ["fewshot", "visualize", "benchmark", "evaluate"])
def test_a_damaged_model_is_named(command, run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    whole = (tmp_path / "run" / "model.keras").read_bytes()
    (tmp_path / "run" / "model.keras").write_bytes(whole[: len(whole) // 2])
    options = ("--output", tmp_path / "pictures") if command == "visualize" else ()
    status, _, err = call(capsys, command, tmp_path / "run", *options)
    assert status == 2
    assert re.search(r"^Error: .*model\.keras cannot be read as a Keras model: [^\n]*$", err, re.MULTILINE)
    assert "Variants" not in err


def test_a_model_of_other_layers_is_named(run, tmp_path, capsys):
    images = keras.Input((8, 8, 1))
    features = keras.layers.Flatten()(keras.layers.Conv2D(4, 3)(images))  # the head's weights belong to one size
    other = copy_of(
        run, tmp_path / "other", keras.Model(images, keras.layers.Dense(10, name="dense")(features), name="other")
    )
    status, _, err = call(capsys, "benchmark", other, "--growth", tmp_path / "growth.png")
    assert status == 2
    assert "dense/kernel of 'other' has the shape (784, 10) at the new size" in err


@pytest.mark.parametrize("command", ["benchmark", "export"])
def test_what_tensorflow_computes_says_which_backend_it_needs(command, run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    options = ("--output", tmp_path) if command == "export" else ()
    status, out, err = call(capsys, command, run, *options)
    assert status == 2
    assert out == ""
    assert "needs KERAS_BACKEND=tensorflow, but it is jax. A model trained on another backend loads on" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["fewshot", "visualize", "invariance"])
def test_an_unreadable_image_is_named(command, run, tmp_path, capfd):
    for split, label in itertools.product(("train", "test"), "0123456789"):
        (tmp_path / "images" / split / label).mkdir(parents=True)
        (tmp_path / "images" / split / label / "one.png").write_bytes(b"no image")
    dataset = data.DatasetSpec(str(tmp_path / "images"), split="test")
    _, card = data.load_model(run)
    shutil.copytree(run, tmp_path / "run")
    dataclasses.replace(card, dataset=dataset).save(tmp_path / "run" / "model.json")
    arguments = {
        "fewshot": (tmp_path / "run",),
        "visualize": (tmp_path / "run", "--output", tmp_path / "pictures"),
        "invariance": ("--dataset", tmp_path / "images"),
    }
    status, _, err = call(capfd, command, *arguments[command])
    assert status == 2
    (line,) = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert re.search(r"images could not be read: .*one\.png", line)


def test_benchmark_measures_and_draws_growth(run, tmp_path, capsys, monkeypatch):
    # Products as large as a peak needs take seconds.
    monkeypatch.setattr(evaluation, "matmul_peak", functools.partial(evaluation.matmul_peak, [256]))
    picture = tmp_path / "growth.svg"
    status, out, _ = call(capsys, "benchmark", run, "--batch-size", 2, "--batch-size", 4, "--growth", picture, "--json")
    (row,) = json.loads(out)
    model, _ = data.load_model(run)
    assert status == 0
    assert row["parameters"] == model.count_params()
    assert row["parameters_without_head"] == row["parameters"] - 32 * 10 - 10
    assert row["multiply_adds"] == multiply_adds(model)
    # TensorFlow counts each multiply-add twice, and biases, normalisation and activations besides.
    assert 2 * row["multiply_adds"] < row["framework_operations"] < 3 * row["multiply_adds"]
    assert row["images_per_second"] == max(row["by_batch_size"].values())
    assert row["fraction_of_peak"] == pytest.approx(
        row["multiply_adds"] * row["images_per_second"] / row["matmul_peak"]
    )
    assert row["growth"]["pixels"] == [64, 256, 576, 1024]
    assert row["growth"]["patches"] == [16, 64, 144, 256]
    assert row["growth"]["exponents"]["multiply-adds per image"] == pytest.approx(1.0, abs=0.01)
    assert picture.read_text().startswith("<?xml")
    assert row["reported"] == []


def test_benchmark_without_a_model_prints_the_papers_tables(tmp_path, capsys):
    status, out, _ = call(capsys, "benchmark", "--json", "--tradeoff", tmp_path / "tradeoff.png")
    rows = json.loads(out)
    assert status == 0
    assert {"model": "Mixer-B/16", "imagenet": 76.44}.items() <= {k: rows[10][k] for k in ("model", "imagenet")}.items()
    with Image.open(tmp_path / "tradeoff.png") as picture:
        assert picture.size[0] > 500


def test_the_papers_tables_stand_by_their_sources(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    status, out, _ = call(capsys, "benchmark")
    assert status == 0
    titles = re.findall(r"^Reported by (.*?) *$", out, re.MULTILINE)
    assert len(titles) == len({row.source for row in reported.TABLE})
    assert titles[0] == "arXiv 2105.01601, table 2; img/s of a TPUv3 core"
    gmlp = out[out.index("2105.08050") : out.index("2105.03404")]
    assert "G MAdds" in gmlp
    assert "core-days" not in gmlp  # the source states none


def test_invariance_trains_every_order_and_draws_the_curves(tmp_path, capsys, monkeypatch):
    def shallow(image_shape, patch_size, classes):
        sizes = dict(num_blocks=1, hidden_dim=32, tokens_mlp_dim=16, channels_mlp_dim=64)
        return keras_mixer.Mixer(**sizes, patch_size=patch_size, input_shape=image_shape, classes=classes)

    monkeypatch.setattr(invariance, "_mixer", shallow)
    picture = tmp_path / "curves.png"
    options = ("--models", "mixer", "--epochs", 2, "--limit", 200, "--output", picture, "--json")
    status, out, _ = call(capsys, "invariance", *options)
    curves = json.loads(out)
    assert status == 0
    assert [curve["order"] for curve in curves] == ["original", "patches and pixels", "all pixels"]
    assert all(len(curve["accuracy"]) == 2 for curve in curves)
    assert all(curve["loss"][1] < curve["loss"][0] for curve in curves)
    assert picture.exists()


def test_curves_that_cannot_be_drawn_are_printed_all_the_same(tmp_path, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError("No space left on device")

    curve = evaluation.Curve("mixer", "original", (0.25, 0.5), (2.0, 1.0))
    monkeypatch.setattr(evaluation, "invariance_experiment", lambda *_, **__: [curve])
    monkeypatch.setattr(visualization, "save_figure", full)
    options = ("--limit", 10, "--output", tmp_path / "curves.png", "--json")
    status, out, err = call(capsys, "invariance", *options)
    assert status == 2
    assert json.loads(out)[0]["accuracy"] == [0.25, 0.5]
    assert "No space left" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fewshot", "mixer_nano", "--weights", "cifar10"), "The card names no dataset: give --dataset"),
        (("fewshot", "no_such_model"), "no_such_model.*Variants: mixer_s32"),
        (("visualize", "{run}", "--output", "{tmp}", "--block", "7"), "has 2 Mixer blocks"),
        (
            ("visualize", "{run}", "--output", "{tmp}", "--image", "{run}/model.json"),
            r"model\.json cannot be read: it is not an image of a known format",
        ),
        (("visualize", "{run}", "--output", "{tmp}", "--weights", "imagenet1k"), "--weights is for the name"),
        (("benchmark", "--growth", "{tmp}/growth.png"), "Name the MODEL to measure"),
        (("benchmark", "--tradeoff", "{tmp}/tradeoff.gif"), r"must end in \.png or \.svg"),
        (("invariance", "--output", "{tmp}/curves.gif"), r"must end in \.png or \.svg"),
        (("invariance", "--patch-size", "3", "--limit", "10"), "multiple of the patch size|do not divide"),
        (("fewshot", "{run}", "--test-split", "nothing"), "has no split 'nothing'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, message, run, tmp_path, capsys):
    status, out, err = call(capsys, *(a.format(run=run, tmp=tmp_path) for a in arguments))
    assert status == 2
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    assert re.search(message, lines[0]), lines
    assert "Traceback" not in err
