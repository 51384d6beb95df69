import imagenet
import numpy as np
import pytest

from keras_mixer.evaluation import EvaluationSplit, real_accuracy, real_dataset, real_label_sets


def test_any_label_counts_and_images_without_one_do_not():
    accuracy, counted = real_accuracy(np.array([3, 1, 2, 0]), [[5, 3], [2], [], [0]])
    assert (accuracy, counted) == (pytest.approx(2 / 3), 3)


def test_an_image_without_finite_scores_is_wrong():
    assert real_accuracy(np.array([-1, 1]), [[0], [1]]) == (0.5, 2)


@pytest.mark.parametrize(("predictions", "sets", "message"), [([1], [[]], "None of the images"), ([1, 2], [[1]], "2;")])
def test_nothing_to_count_is_an_error(predictions, sets, message):
    with pytest.raises(ValueError, match=message):
        real_accuracy(np.array(predictions), sets)


def test_label_sets_and_images_come_in_one_order(tmp_path):
    """Grey levels that their labels name: the level is the original label, and ReaL has it and the next, or none."""
    levels = np.random.default_rng(0).permutation(12)
    images = [np.full((10, 10, 3), 20 * level, np.uint8) for level in levels]
    imagenet.write_real(tmp_path, images, levels, [[] if level == 5 else [level, level + 1] for level in levels])
    dataset = real_dataset(tmp_path)
    card = imagenet.card(np.arange(1000))
    split = EvaluationSplit(card, dataset, batch_size=5, subset=True)
    read = [(image.mean(), label) for images, labels in split for image, label in zip(images, labels, strict=True)]
    sets = real_label_sets(dataset)
    assert len(read) == len(sets) == 12
    for (brightness, label), real in zip(read, sets, strict=True):
        assert round((brightness + 1) / 2 * 255 / 20) == label
        assert real.tolist() == ([] if label == 5 else [label, label + 1])
    for short, whole in zip(real_label_sets(dataset, limit=7), sets[:7], strict=True):
        np.testing.assert_array_equal(short, whole)
