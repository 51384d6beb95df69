import dataclasses
import json
import re

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow.python.util import deprecation

from keras_mixer import data


def test_examples_are_encoded_and_numbered(data_dir):
    source = data.load("digits", split="test", data_dir=data_dir)
    examples = list(source.examples().as_numpy_iterator())
    assert [example["index"] for example in examples] == list(range(360))
    assert all(example["image"].startswith(b"\x89PNG") for example in examples)
    assert source.class_names == tuple("0123456789")
    assert source.image_shape == (8, 8, 1)


def test_reading_warns_of_nothing(data_dir, monkeypatch, caplog):
    monkeypatch.setattr(deprecation, "_PRINTED_WARNING", {})  # TensorFlow warns of a function once per process
    monkeypatch.setattr(tf.get_logger(), "propagate", True)
    caplog.set_level("WARNING", logger="tensorflow")  # other tests may have raised it
    source = data.load("digits", split="test", data_dir=data_dir)
    assert len(list(source.examples())) == len(list(source.shuffled(tf.constant(1, tf.int64)))) == 360

    def warnings():
        return [message for logger, _, message in caplog.record_tuples if logger == "tensorflow"]

    assert warnings() == []
    tf.data.experimental.Counter()
    assert len(warnings()) == 1  # elsewhere it still does


@pytest.mark.parametrize(("split", "size"), [("train[:90%]", 1293), ("train+test", 1797), ("train[100:200]", 100)])
def test_split_expressions(data_dir, split, size):
    source = data.load("digits", split=split, data_dir=data_dir)
    assert source.num_examples == size == len(list(source.examples()))


def test_a_specification_finds_the_source_again(data_dir):
    source = data.load("digits", split="test", data_dir=data_dir)
    spec = data.DatasetSpec(**json.loads(json.dumps(dataclasses.asdict(source.spec))))
    again = data.load(spec)
    assert [e["label"] for e in again.examples().as_numpy_iterator()] == [
        e["label"] for e in source.examples().as_numpy_iterator()
    ]
    assert data.load(spec, split="train").num_examples == 1437


@pytest.mark.parametrize(
    ("name", "classes", "shape"),
    [
        ("cifar10", 10, (32, 32, 3)),
        ("cifar100", 100, (32, 32, 3)),
        ("imagenet2012", 1000, None),
        ("oxford_flowers102", 102, None),
        ("oxford_iiit_pet", 37, None),
    ],
)
def test_any_tfds_name(tmp_path, name, classes, shape):
    with tfds.testing.mock_data(num_examples=3):
        source = data.load(name, data_dir=str(tmp_path))
        assert (source.num_examples, len(source.class_names), source.image_shape) == (3, classes, shape)
        for example in source.examples():
            decoded = tf.io.decode_image(example["image"], channels=3)
            assert decoded.dtype == tf.uint8
            assert 0 <= int(example["label"]) < classes


def test_parts_hold_everything_once(data_dir):
    source = data.load("digits", split="train", data_dir=data_dir)
    parts = [source.part(4, index) for index in range(4)]
    assert sorted(part.num_examples for part in parts) == [359, 359, 359, 360]
    images = [example["image"] for part in parts for example in part.examples().as_numpy_iterator()]
    assert sorted(images) == sorted(example["image"] for example in source.examples().as_numpy_iterator())


@pytest.mark.parametrize("split", ["test", "train[50%:]", "test+train[:10%]"])
def test_labels_and_chosen_examples(data_dir, split):
    source = data.load("digits", split=split, data_dir=data_dir)
    examples = list(source.examples().as_numpy_iterator())
    assert source.labels.tolist() == [example["label"] for example in examples]
    chosen = source.chosen([3, 4, 200])
    assert chosen.num_examples == 3
    assert list(chosen.examples().as_numpy_iterator()) == [examples[index] for index in (3, 4, 200)]
    assert chosen.location(200) == source.location(200)
    assert list(source.chosen([]).examples()) == []
    part = source.part(4, 1)
    assert part.labels.tolist() == [example["label"] for example in part.examples().as_numpy_iterator()]


@pytest.mark.parametrize("split", ["train[40:200]", "test+train[300:]"])
def test_a_location_is_where_tfds_finds_the_example(digits_in_files, split):
    source = data.load("digits", split=split, data_dir=digits_in_files)
    seen = {}
    for example in source.shuffled(tf.constant(3, tf.int64)).as_numpy_iterator():
        seen[source.location(example["index"])] = (example["image"], example["label"])
    assert len(seen) == source.num_examples
    for location in [*seen][::500]:
        number, name = re.fullmatch(r"example (\d+) of digits, split (train|test)", location).groups()
        one = data.load("digits", split=f"{name}[{number}:{int(number) + 1}]", data_dir=digits_in_files)
        assert [(found["image"], found["label"]) for found in one.examples().as_numpy_iterator()] == [seen[location]]


def test_locations_count_within_each_split(digits_in_files):
    source = data.load("digits", split="test+train[300:]", data_dir=digits_in_files)
    assert source.location(1436) == "example 1436 of digits, split train"  # TFDS reads train first
    assert source.location(1437) == "example 0 of digits, split test"


def test_files_are_shuffled_by_the_seed(digits_in_files):
    source = data.load("digits", data_dir=digits_in_files)

    def order(seed):
        return [example["index"] for example in source.shuffled(tf.constant(seed, tf.int64)).as_numpy_iterator()]

    one, two = order(1), order(2)
    assert one == order(1)
    assert sorted(one) == sorted(two) == list(range(1437))
    assert len({number // 36 for number in one[:256]}) >= 16  # of the forty files, sixteen are read at a time
    assert np.median(np.abs(np.argsort(one) - np.argsort(two))) > 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": "no_such_dataset"}, "no TFDS dataset 'no_such_dataset'.*./no_such_dataset"),
        ({"dataset": "cifar10:9.9.9"}, "no TFDS dataset 'cifar10:9.9.9'.*9.9.9"),
        ({"dataset": "digits", "split": "validation"}, "no split 'validation'; it has train, test"),
        ({"dataset": "digits", "split": "train[:"}, "no split"),
        ({"dataset": "digits", "split": "train[:0]"}, "The split 'train\\[:0\\]' of digits is empty"),
        ({"dataset": "digits", "label_key": "image"}, "label_key to one of: label"),
        ({"dataset": ""}, "`name` of a dataset must be a non-empty string"),
    ],
)
def test_bad_names(data_dir, arguments, message):
    with pytest.raises(ValueError, match=message):
        data.load(data_dir=data_dir, **arguments)


def test_another_label(tmp_path):
    with tfds.testing.mock_data(num_examples=3):
        source = data.load("cifar100", data_dir=str(tmp_path), label_key="coarse_label")
        assert len(source.class_names) == 20
        assert all(example["label"] < 20 for example in source.examples())
        with pytest.raises(ValueError, match=r"set label_key to one of: .*coarse_label"):
            data.load("cifar100", data_dir=str(tmp_path), label_key="fine")


def test_a_dataset_of_texts_is_refused(tmp_path):
    with tfds.testing.mock_data(num_examples=3), pytest.raises(ValueError, match="has no image feature 'text'"):
        data.load("imdb_reviews", data_dir=str(tmp_path))
