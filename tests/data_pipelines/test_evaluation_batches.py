import numpy as np
import pytest

from keras_mixer import data

DIGITS = data.Preprocessing(image_size=8, channels=1, resize="direct")


@pytest.fixture
def source(data_dir):
    return data.load("digits", split="test", data_dir=data_dir)


def test_every_example_once_in_order(source):
    batches = list(data.evaluation_batches(source, DIGITS, 100).as_numpy_iterator())
    assert [images.shape for images, _, _ in batches] == [(100, 8, 8, 1)] * 3 + [(60, 8, 8, 1)]
    examples = list(source.examples().as_numpy_iterator())
    np.testing.assert_array_equal(np.concatenate([labels for _, labels, _ in batches]), [e["label"] for e in examples])
    images = np.concatenate([images for images, _, _ in batches])
    np.testing.assert_array_equal(images, [DIGITS(example["image"]) for example in examples])
    assert all((weights == 1).all() for _, _, weights in batches)


def test_padding_has_no_weight(source):
    batches = data.evaluation_batches(source, DIGITS, 100, pad=True, one_hot=True)
    assert [spec.shape for spec in batches.element_spec] == [(100, 8, 8, 1), (100, 10), (100,)]
    *_, (images, labels, weights) = batches.as_numpy_iterator()
    assert (weights == [1] * 60 + [0] * 40).all()
    assert (images[60:] == 0).all()
    assert (labels[:60].sum(axis=1) == 1).all()


def test_two_iterations_are_equal(source):
    batches = data.evaluation_batches(source, DIGITS, 128)
    for first, second in zip(batches, batches, strict=True):
        np.testing.assert_array_equal(first[0], second[0])


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, True])
def test_bad_batch_size(source, batch_size):
    with pytest.raises(ValueError, match="`batch_size` must be a positive integer"):
        data.evaluation_batches(source, DIGITS, batch_size)
