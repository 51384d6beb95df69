import numpy as np
import pytest
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix

from keras_mixer.evaluation.confidence import calibration, confusion_matrix


def test_error_by_hand():
    """Two bins: 3 sure at 0.9 of which 2 right, and 2 at 0.6 of which 2 right."""
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.6, 0.4], [0.4, 0.6]])
    labels = np.array([0, 1, 1, 0, 1])
    result = calibration(probabilities, labels, bins=10)
    assert result.error == pytest.approx((3 * abs(0.9 - 2 / 3) + 2 * abs(0.6 - 1.0)) / 5)
    assert result.count.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 3, 0]
    assert result.accuracy[8] == pytest.approx(2 / 3)
    assert np.isnan(result.confidence[0])


def test_a_calibrated_model_has_a_small_error_and_an_overconfident_one_a_large_one():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([0.5] * 4, size=20000)
    labels = (rng.uniform(size=(20000, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
    assert calibration(probabilities, labels).error < 0.02
    sharper = probabilities**3 / (probabilities**3).sum(axis=1, keepdims=True)
    assert calibration(sharper, labels).error > 0.1


def test_logits_are_refused():
    with pytest.raises(ValueError, match="apply softmax"):
        calibration(np.array([[2.0, -1.0]]), np.array([0]))
    with pytest.raises(ValueError, match="`bins` must be a positive integer"):
        calibration(np.array([[0.5, 0.5]]), np.array([0]), bins=0)


def test_confusion_matrix_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    predictions, labels = rng.integers(0, 5, 100), rng.integers(0, 4, 100)  # class 4 never occurs
    expected = sklearn_confusion_matrix(labels, predictions, labels=range(5))
    np.testing.assert_array_equal(confusion_matrix(predictions, labels, 5), expected)
    with pytest.raises(ValueError, match="`predictions` go from 0 to 4, but there are 4"):
        confusion_matrix(predictions, labels, 4)
