import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, recall_score, top_k_accuracy_score

from keras_mixer.evaluation import Predictor, calibration, measure

LABELS = np.random.default_rng(0).integers(0, 7, 100)
SCORES = np.random.default_rng(1).normal(size=(100, 7)).astype(np.float32)


def fixed(scores: np.ndarray) -> Predictor:
    """A classifier whose "image" i is the number i."""
    return Predictor("fixed", lambda images: scores[images.astype(int)])


def batches(labels=LABELS, size=30):
    indices = np.arange(len(labels))
    return [(indices[start : start + size], labels[start : start + size]) for start in range(0, len(labels), size)]


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def test_agrees_with_scikit_learn():
    accuracy = measure({"a": fixed(SCORES)}, batches())["a"]
    assert accuracy.examples == 100
    assert accuracy.top1 == pytest.approx(top_k_accuracy_score(LABELS, SCORES, k=1))
    assert accuracy.top5 == pytest.approx(top_k_accuracy_score(LABELS, SCORES, k=5))
    assert accuracy.per_class == pytest.approx(recall_score(LABELS, SCORES.argmax(axis=1), average=None))
    np.testing.assert_array_equal(accuracy.confusion_matrix(), confusion_matrix(LABELS, SCORES.argmax(axis=1)))
    np.testing.assert_array_equal(accuracy.labels, LABELS)
    np.testing.assert_array_equal(accuracy.predictions, SCORES.argmax(axis=1))


@pytest.mark.parametrize("form", ["logits", "probabilities"])
def test_calibration_error_is_of_the_probabilities_in_either_form(form):
    logits = 3 * SCORES
    found = measure({"a": fixed(logits if form == "logits" else softmax(logits))}, batches())["a"]
    assert found.calibration_error == pytest.approx(calibration(softmax(logits), LABELS).error, abs=1e-6)
    assert found.calibration_error > 0.3  # three times as sure as it should be, of random scores


def test_a_single_model_is_compared_with_nothing():
    accuracy = measure({"a": fixed(SCORES)}, batches())["a"]
    assert (accuracy.agreement, accuracy.largest_score_difference, accuracy.largest_logit_difference) == (None,) * 3


def test_the_first_model_is_the_reference():
    other = SCORES.copy()
    other[7, 2] += 0.25  # not enough to become the best
    other[93] = -other[93]
    other[93, SCORES[93].argmax()] = -9.0
    found = measure({"a": fixed(SCORES), "b": fixed(other)}, batches())["b"]
    assert found.agreement == 0.99
    assert found.largest_score_difference == pytest.approx(np.abs(SCORES - other).max())
    assert found.largest_logit_difference == found.largest_score_difference  # scores that are logits already


def test_logits_behind_softmax_are_compared_without_their_common_constant():
    shift = np.zeros((100, 7))
    shift[50, 3] = 0.7
    reference, other = softmax(SCORES), softmax(SCORES + shift + 5.0)
    found = measure({"a": fixed(reference), "b": fixed(other)}, batches())["b"]
    # 0.7 on one of seven classes moves their mean by 0.1.
    assert found.largest_logit_difference == pytest.approx(0.6, abs=1e-5)


def test_a_probability_of_zero_gives_a_finite_logit():
    reference = np.eye(7, dtype=np.float32)[LABELS]
    found = measure({"a": fixed(reference), "b": fixed(softmax(SCORES))}, batches())["b"]
    assert np.isfinite(found.largest_logit_difference)


def test_a_constant_model_is_not_right_by_ties():
    accuracy = measure({"a": fixed(np.zeros((100, 7), np.float32))}, batches())["a"]
    assert accuracy.top1 == np.mean(LABELS == 0)
    assert accuracy.top5 == np.mean(LABELS == 0)


def test_scores_that_are_no_numbers_are_counted_and_wrong():
    broken = SCORES.copy()
    broken[:40, 0] = np.nan
    broken[40, 1] = np.inf
    found = measure({"a": fixed(SCORES), "b": fixed(broken)}, batches())["b"]
    assert found.not_finite == 41
    assert found.top1 == np.sum(LABELS[41:] == SCORES[41:].argmax(axis=1)) / 100
    assert found.agreement == 0.59
    assert found.largest_score_difference == 0.0  # over the images that have scores
    assert found.predictions[:41].tolist() == [-1] * 41
    assert found.confusion_matrix().sum() == 59
    rest = measure({"a": fixed(SCORES[41:])}, batches(LABELS[41:]))["a"]
    assert found.calibration_error == rest.calibration_error


def test_images_without_numbers_in_the_reference_are_not_compared():
    broken = SCORES.copy()
    broken[:40, 0] = np.nan  # the first batch of 30 has no others
    broken[40, 1] = np.inf
    other = SCORES.copy()
    other[45, SCORES[45].argmin()] -= 0.5
    found = measure({"a": fixed(broken), "b": fixed(other)}, batches())["b"]
    assert found.largest_score_difference == found.largest_logit_difference == pytest.approx(0.5)
    assert found.agreement == 0.59


def test_where_nothing_can_be_compared_there_is_no_difference():
    broken = np.full_like(SCORES, np.nan)
    for predictors in ({"a": fixed(broken), "b": fixed(SCORES)}, {"a": fixed(SCORES), "b": fixed(broken)}):
        found = measure(predictors, batches())["b"]
        assert (found.agreement, found.largest_score_difference, found.largest_logit_difference) == (0.0, None, None)


def test_probabilities_that_quantization_took_off_their_sum_are_no_logits():
    reference = softmax(3 * SCORES)
    rounded = np.round(reference * 64).astype(np.float32) / 64
    assert np.abs(rounded.sum(axis=1) - 1).max() > 0.01
    found = measure({"a": fixed(reference), "b": fixed(rounded)}, batches())
    assert found["b"].calibration_error == pytest.approx(found["a"].calibration_error, abs=0.05)


def test_a_reference_with_a_nan_is_still_one_of_logits():
    broken = SCORES.copy()
    broken[3, 2] = np.nan
    found = measure({"a": fixed(broken), "b": fixed(SCORES)}, batches())
    assert found["b"].calibration_error == measure({"b": fixed(SCORES)}, batches())["b"].calibration_error


def test_a_model_without_a_finite_score_has_no_calibration_error():
    found = measure({"a": fixed(np.full_like(SCORES, np.nan))}, batches())["a"]
    assert (found.top1, found.not_finite, found.calibration_error) == (0.0, 100, None)


def test_a_class_without_images_has_no_share():
    labels = np.where(LABELS == 4, 5, LABELS)
    accuracy = measure({"a": fixed(SCORES)}, batches(labels))["a"]
    assert accuracy.per_class[4] is None
    assert None not in accuracy.per_class[:4] + accuracy.per_class[5:]


@pytest.mark.parametrize(
    ("predictors", "labels", "message"),
    [
        ({"a": fixed(SCORES)}, LABELS[:0], "no images"),
        ({"a": fixed(SCORES)}, LABELS + 1, "labels from 1 to 7"),
        ({"a": fixed(SCORES), "b": fixed(SCORES[:, :6])}, LABELS, "b gives scores of shape"),
    ],
)
def test_what_cannot_be_measured_is_an_error(predictors, labels, message):
    with pytest.raises(ValueError, match=message):
        measure(predictors, batches(labels))
