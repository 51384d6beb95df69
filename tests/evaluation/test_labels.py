import numpy as np
import pytest

from keras_mixer.evaluation import Predictor, class_subset, on_classes

LOGITS = np.random.default_rng(0).normal(size=(5, 9)).astype(np.float32)


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_finds_the_wanted_in_their_order():
    names = ["n4", "n1", "n3", "n2"]
    assert class_subset(names, ["n1", "n2"]).tolist() == [1, 3]
    with pytest.raises(ValueError, match="1 of 2 classes are not among the model's, as 'n9'"):
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
