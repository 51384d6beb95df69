import dataclasses
import pathlib
import shutil
import unicodedata

import digit_models
import numpy as np
import pytest
from PIL import Image

from keras_mixer.data import DatasetSpec, ModelCard, load
from keras_mixer.evaluation import EvaluationSplit, labelled_batches

DIGITS = pathlib.Path(__file__).parents[1] / "data" / "digits"


def labels(split):
    return np.concatenate([batch_labels for _, batch_labels in split])


def test_reads_the_cards_split_in_the_same_order_each_time(folder):
    split = EvaluationSplit(digit_models.card(folder), batch_size=100)
    assert [len(images) for images, _ in split] == [100, 100, 100, 60]
    np.testing.assert_array_equal(labels(split), labels(split))


def test_a_limit_reads_the_first_images(folder):
    card = digit_models.card(folder)
    split = EvaluationSplit(card, batch_size=32, limit=50)
    assert split.num_examples == 50
    np.testing.assert_array_equal(labels(split), labels(EvaluationSplit(card))[:50])


def test_another_split_takes_the_place_of_the_cards(folder):
    spec = DatasetSpec("digits", "train[:20]", str(folder))
    assert EvaluationSplit(digit_models.card(folder), spec).num_examples == 20


def test_a_card_without_a_dataset_needs_one(folder):
    card = dataclasses.replace(digit_models.card(folder), dataset=None)
    with pytest.raises(ValueError, match="names no dataset"):
        EvaluationSplit(card)


@pytest.mark.parametrize("limit", [0, 1.5, "9"])
def test_a_limit_is_a_number_of_images(folder, limit):
    with pytest.raises(ValueError, match="`limit` must be a positive integer"):
        EvaluationSplit(digit_models.card(folder), limit=limit)


def test_other_classes_are_an_error(folder):
    card = dataclasses.replace(digit_models.card(folder), class_names=("cat", "dog"))
    with pytest.raises(ValueError, match=r"10 \(0, 1, 2, ...\) instead of 2 \(cat, dog\)"):
        EvaluationSplit(card)


def test_class_names_are_compared_in_one_form_of_unicode(folder, tmp_path):
    for name in ("café", "dog"):
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / name / "0.png")
    names = tuple(unicodedata.normalize("NFD", name) for name in ("bee", "café", "dog"))
    card = dataclasses.replace(digit_models.card(folder), class_names=names)
    assert sorted(labels(EvaluationSplit(card, DatasetSpec(f"{tmp_path}/")))) == [1, 2]


def test_some_of_the_models_classes_are_found_among_them(folder):
    names = ("nought", *"9876543210")
    card = dataclasses.replace(digit_models.card(folder), class_names=names)
    whole = EvaluationSplit(card)
    assert (whole.classes, whole.class_names) == (None, names)
    assert [names[label] for label in labels(whole)] == [
        str(label) for label in labels(EvaluationSplit(digit_models.card(folder)))
    ]
    split = EvaluationSplit(card, subset=True)
    assert split.class_names == tuple("0123456789")
    assert [names[index] for index in split.classes] == list("0123456789")
    assert EvaluationSplit(digit_models.card(folder), subset=True).classes is None
    for others in (names[2:], ("cat", "dog")):
        with pytest.raises(ValueError, match=r"are not those of 'digits'.* It lacks "):
            EvaluationSplit(dataclasses.replace(card, class_names=others), subset=True)


def test_an_unreadable_image_is_named(tmp_path):
    for label, readable in (("ant", True), ("bee", False)):  # one alone: batches are made ahead of the one that stops
        (tmp_path / "test" / label).mkdir(parents=True)
        path = tmp_path / "test" / label / "0.png"
        Image.new("L", (8, 8)).save(path) if readable else path.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"1 image could not be read: .*bee/0\.png.* --corrupt-limit 1\."):
        list(labelled_batches(load(str(tmp_path), "test"), digit_models.PREPROCESSING, 1))


def test_images_beyond_the_limit_are_not_read(tmp_path):
    for number in range(10):
        (tmp_path / "test" / "ant").mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(tmp_path / "test" / "ant" / f"{number}.png")
    (tmp_path / "test" / "ant" / "9.png").write_bytes(b"no image")
    spec = DatasetSpec(str(tmp_path), "test")
    split = EvaluationSplit(ModelCard("one", ("ant",), digit_models.PREPROCESSING, spec), limit=9)
    assert labels(split).tolist() == [0] * 9
    with pytest.raises(ValueError, match=r"1 image could not be read: .*9\.png"):
        labels(EvaluationSplit(ModelCard("one", ("ant",), digit_models.PREPROCESSING, spec)))


@pytest.mark.parametrize("batch_size", [1, 4])
def test_so_many_unreadable_images_are_left_out_and_named(tmp_path, caplog, batch_size):
    for label, name in (("ant", "8_sample1.png"), ("bee", "8_sample3.png")):
        (tmp_path / "test" / label).mkdir(parents=True)
        shutil.copy(DIGITS / name, tmp_path / "test" / label)
    (tmp_path / "test" / "ant" / "damaged.png").write_bytes(b"no image")
    source = load(str(tmp_path), "test")
    assert source.labels.tolist() == [0, 1, 0]
    split = EvaluationSplit(
        ModelCard("two", ("ant", "bee"), digit_models.PREPROCESSING, source.spec),
        batch_size=batch_size,
        corrupt_limit=1,
    )
    assert labels(split).tolist() == [0, 1]
    assert "1 image could not be read and was left out" in caplog.text
    assert "damaged.png" in caplog.text
