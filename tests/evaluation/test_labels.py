import imagenet
import numpy as np
import pytest

from keras_mixer.evaluation import (
    EvaluationSplit,
    Predictor,
    class_subset,
    on_classes,
    real_accuracy,
    real_dataset,
    real_label_sets,
)

LOGITS = np.random.default_rng(0).normal(size=(5, 9)).astype(np.float32)


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_finds_the_wanted_in_their_order():
    names = ["n4", "n1", "n3", "n2"]
    assert class_subset(names, ["n1", "n2"]).tolist() == [1, 3]
    with pytest.raises(ValueError, match="1 of 2 classes are not among the model's, such as 'n9'"):
        class_subset(names, ["n1", "n9"])


def test_logits_of_the_kept_classes_are_left_as_they_are():
    kept = on_classes(Predictor("numpy", lambda images: LOGITS), np.array([7, 0, 3]))
    np.testing.assert_array_equal(kept.scores(None), LOGITS[:, [7, 0, 3]])


def test_probabilities_become_softmax_over_the_kept_classes():
    kept = on_classes(Predictor("numpy", lambda images: softmax(LOGITS)), np.array([7, 0, 3]))
    np.testing.assert_allclose(kept.scores(None), softmax(LOGITS[:, [7, 0, 3]]), rtol=1e-5)


def test_kept_classes_without_any_probability_have_scores_of_zero():
    certain = Predictor("numpy", lambda images: np.eye(9, dtype=np.float32)[:2])
    np.testing.assert_array_equal(on_classes(certain, np.array([5, 6])).scores(None), np.zeros((2, 2)))


def test_any_label_counts_and_images_without_one_do_not():
    accuracy, counted = real_accuracy(np.array([3, 1, 2, 0]), [[5, 3], [2], [], [0]])
    assert (accuracy, counted) == (pytest.approx(2 / 3), 3)


def test_an_image_without_finite_scores_is_wrong():
    assert real_accuracy(np.array([-1, 1]), [[0], [1]]) == (0.5, 2)


@pytest.mark.parametrize(
    ("predictions", "sets", "message"),
    [([1], [[]], "No image has a ReaL label"), ([1, 2], [[1]], "each of 2 predictions; got 1")],
)
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
