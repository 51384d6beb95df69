"""A classifier of 21,843 classes on ImageNet, ImageNet-v2 and ReaL, by its scores for the 1,000 classes of these."""

import json

import imagenet
import numpy as np
import pytest
import tensorflow_datasets as tfds

import keras_mixer
from keras_mixer.cli.main import main
from keras_mixer.data import evaluation_batches, load, load_model

PLACES = np.random.default_rng(3).permutation(imagenet.CLASSES_21K)[:1000]


def status(*arguments) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return exit_.value.code


@pytest.fixture(scope="module")
def model():
    return imagenet.classifier()


def best_of_the_thousand(model, images) -> np.ndarray:
    return model.predict_on_batch(images)[:, PLACES].argmax(axis=1)


@pytest.mark.parametrize(
    ("dataset", "split", "options"),
    [("imagenet2012", "validation", ("--split", "validation")), ("imagenet_v2", "test", ())],
)
def test_its_scores_for_the_thousand_classes_are_measured(dataset, split, options, model, tmp_path, capsys):
    with tfds.testing.mock_data(num_examples=24):
        ((images, labels, _),) = evaluation_batches(load(dataset, split=split), imagenet.PREPROCESSING, 24)
        labels = labels.numpy()
        # Places of the classes by which the first image is recognised, and all of its label.
        places = PLACES.copy()
        best = best_of_the_thousand(model, images)[0]
        places[[best, labels[0]]] = places[[labels[0], best]]
        run = imagenet.write_run(tmp_path / "run", model, imagenet.card(places))
        capsys.readouterr()
        assert status("evaluate", run, "--dataset", dataset, *options, "--limit", 20, "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    scores = model.predict_on_batch(images)[:20][:, places]
    right = scores.argmax(axis=1) == labels[:20]
    assert row["examples"] == 20
    assert row["top1"] == pytest.approx(right.mean())
    assert row["top1"] >= 1 / 20
    assert len(row["per_class"]) == 1000
    assert row["per_class"][labels[0]] == right[labels[:20] == labels[0]].mean()
    confidence = (scores.max(axis=1) / scores.sum(axis=1)).mean()
    assert row["calibration_error"] >= abs(confidence - right.mean()) - 1e-6  # by the triangle inequality
    assert row["confusion_matrix"] is None
    assert row["among_classes"] == 1000


def test_real_labels_are_measured_beside_the_original_ones(model, tmp_path, capsys):
    # Of one colour each, for TFDS stores them as JPEG.
    images = np.random.default_rng(0).integers(0, 256, size=(6, 1, 1, 3), dtype=np.uint8).repeat(16, 1).repeat(16, 2)
    prepared = np.stack([imagenet.PREPROCESSING(png(image)) for image in images])
    best = best_of_the_thousand(model, prepared)
    assert len(set(best)) > 1
    wrong = (best + 1) % 1000
    original = [best[0], best[1], wrong[2], wrong[3], wrong[4], wrong[5]]
    real = [[best[0], wrong[0]], [wrong[1]], [wrong[2], best[2]], [best[3]], [], [wrong[5]]]
    imagenet.write_real(tmp_path, images, original, real)
    run = imagenet.write_run(tmp_path / "run", model, imagenet.card(PLACES))
    options = ("evaluate", run, "--real", "--data-dir", tmp_path)
    capsys.readouterr()
    assert status(*options, "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["examples"], row["top1"]) == (6, pytest.approx(2 / 6))
    assert (row["real_examples"], row["real"]) == (5, pytest.approx(3 / 5))
    assert status(*options) == 0
    shown = capsys.readouterr().out
    assert "imagenet2012_real, split validation: 1,000 of 21,843 classes" in " ".join(shown.split())
    assert "ReaL %" in " ".join(shown.split())


def png(image: np.ndarray):
    import tensorflow as tf

    return tf.io.encode_png(image)


def test_a_variant_is_measured_by_its_name(tmp_path, monkeypatch, capsys):
    """With the published names of its 1,000 classes; its head is zero, so that class 0 is best and ties are wrong."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    cache = tmp_path / "keras_mixer"
    cache.mkdir()
    index = {str(number): [synset, f"name {number}"] for number, synset in enumerate(imagenet.synsets())}
    (cache / "imagenet_class_index.json").write_text(json.dumps(index))
    with tfds.testing.mock_data(num_examples=3):
        labels = next(load("imagenet_v2", split="test").examples().batch(3).as_numpy_iterator())["label"]
        capsys.readouterr()
        file = tmp_path / "untrained.weights.h5"
        keras_mixer.MixerS32().save_weights(file)
        assert status("evaluate", "mixer_s32", "--weights", file, "--dataset", "imagenet_v2", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["model"], row["examples"]) == ("mixer_s32", 3)
    assert row["top1"] == row["top5"] == np.mean(labels == 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--real", "--split", "test"), "leave out --dataset and --split"),
        (("--dataset", "digits"), "The classes of digits, split test, are not those of 'mixer_21k'"),
        ((), "names no dataset"),
    ],
)
def test_bad_input_is_one_line(arguments, message, model, tmp_path, capsys):
    run = imagenet.write_run(tmp_path / "run", model, imagenet.card(PLACES))
    assert load_model(run)[1].dataset is None
    assert status("evaluate", run, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
