"""Ridge regression against a plain float64 solve of the normal equations."""

import numpy as np
import pytest

from keras_mixer.evaluation.fewshot import BIAS_FEATURE, RidgePath

CLASSES = 4


def problem(count, width, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    features = rng.normal(size=(count, width)) * rng.uniform(0.1, 10, width) + rng.normal(size=width)
    features[:, 0] += 3 * labels
    return features.astype("float32"), labels


def plain_solution(features, labels, penalty):
    x = features.astype("float64")
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-5)
    x = np.concatenate([x, np.full((len(x), 1), BIAS_FEATURE)], axis=1)
    y = np.where(labels[:, None] == np.arange(CLASSES), 1.0, -1.0)
    return np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)


@pytest.mark.parametrize("penalty", [2.0**-10, 1.0, 2.0**10, 2.0**19])
@pytest.mark.parametrize(("count", "width"), [(60, 9), (10, 9), (9, 9), (7, 30)], ids=["tall", "n=d+1", "n=d", "wide"])
def test_is_the_plain_solution(count, width, penalty):
    features, labels = problem(count, width)
    classifier = RidgePath(features, labels, CLASSES).solve(penalty)
    expected = plain_solution(features, labels, penalty)
    np.testing.assert_allclose(classifier.kernel, expected, rtol=1e-6, atol=1e-9)


def test_scores_are_the_regressed_targets():
    features, labels = problem(50, 6)
    scores = RidgePath(features, labels, CLASSES).solve(1e-3).scores(features)
    x = (features - features.mean(axis=0, dtype="float64")) / (features.std(axis=0, dtype="float64") + 1e-5)
    x = np.concatenate([x, np.full((50, 1), BIAS_FEATURE)], axis=1)
    np.testing.assert_allclose(scores, x @ plain_solution(features, labels, 1e-3), rtol=1e-5, atol=1e-6)


def test_a_class_without_examples_and_a_constant_feature():
    features, labels = problem(30, 5)
    features[:, 2] = 7.0
    labels[labels == 1] = 2
    classifier = RidgePath(features, labels, CLASSES).solve(1.0)
    np.testing.assert_allclose(classifier.kernel, plain_solution(features, labels, 1.0), rtol=1e-6, atol=1e-9)
    assert 1 not in classifier.scores(features).argmax(axis=1)


@pytest.mark.parametrize(("count", "width", "largest"), [(200, 8, 9), (8, 200, 8)])
def test_decomposes_the_smaller_matrix(count, width, largest, monkeypatch):
    seen = []
    original = np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda matrix: seen.append(matrix.shape) or original(matrix))
    RidgePath(*problem(count, width), CLASSES)
    assert seen == [(largest, largest)]


def test_bad_arguments_are_named():
    features, labels = problem(20, 5)
    with pytest.raises(ValueError, match="Expected features"):
        RidgePath(features, labels[:-1], CLASSES)
    with pytest.raises(ValueError, match="there are 2 classes"):
        RidgePath(features, labels, 2)
    with pytest.raises(ValueError, match="must be positive, but got 0"):
        RidgePath(features, labels, CLASSES).solve(0)
