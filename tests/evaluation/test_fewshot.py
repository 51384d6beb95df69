import keras
import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.preprocessing import StandardScaler

from keras_mixer.evaluation import fewshot
from keras_mixer.evaluation.fewshot import BIAS_FEATURE, RidgePath

CLASSES = 3


@pytest.fixture(scope="module")
def splits():
    rng = np.random.default_rng(0)

    def split(count):
        labels = rng.integers(0, CLASSES, count)
        features = rng.normal(size=(count, 12)).astype("float32")
        features[:, :CLASSES] += 1.5 * np.eye(CLASSES)[labels]
        return features, labels

    return split(300), split(200)


def test_accuracy_is_that_of_another_ridge_classifier(splits):
    """scikit-learn leaves the bias without penalty, which the large bias feature approaches."""
    (features, labels), (test_features, test_labels) = splits
    shots, seed, penalty = 20, 4, 2.0**5
    (result,) = fewshot.few_shot_probe(*splits, CLASSES, shots=[shots], penalties=[penalty], seeds=[seed])
    rng = np.random.default_rng(seed)
    chosen = np.concatenate([rng.permutation(np.flatnonzero(labels == c))[:shots] for c in range(CLASSES)])
    scaler = StandardScaler().fit(features[chosen])
    other = RidgeClassifier(alpha=penalty).fit(scaler.transform(features[chosen]), labels[chosen])
    expected = other.score(scaler.transform(test_features), test_labels)
    assert result.accuracies == (pytest.approx(expected, abs=0.006),)  # one image of 200


def test_more_shots_help_and_seeds_differ(splits):
    few, many = fewshot.few_shot_probe(*splits, CLASSES, shots=[1, 50], penalties=[1.0], seeds=range(5))
    assert (few.shots, many.shots) == (1, 50)
    assert many.mean > few.mean + 0.1
    assert few.spread > 0
    assert few.mean == pytest.approx(np.mean(few.accuracies))
    assert few.spread == pytest.approx(np.std(few.accuracies, ddof=1))


def test_the_sweep_gives_each_penalty_what_it_gives_alone(splits):
    sweep = fewshot.few_shot_probe(*splits, CLASSES, shots=[5], penalties=fewshot.PENALTY_SWEEP, seeds=[0])
    assert [result.penalty for result in sweep] == [2.0**exponent for exponent in range(-10, 20)]
    for index in (0, 20, 29):
        penalty = fewshot.PENALTY_SWEEP[index]
        (alone,) = fewshot.few_shot_probe(*splits, CLASSES, shots=[5], penalties=[penalty], seeds=[0])
        assert sweep[index] == alone


def test_equal_seeds_give_equal_results(splits):
    first, second = (fewshot.few_shot_probe(*splits, CLASSES, shots=[3]) for _ in range(2))
    assert first == second


def test_images_that_no_seed_chose_are_not_needed(splits):
    (features, labels), test = splits
    few = {"shots": [1, 7], "penalties": [1.0, 2.0**10]}
    choices = fewshot.choose_shots(labels, CLASSES, 7, seeds=[3, 8])
    for seed, choice in zip([3, 8], choices, strict=True):
        rng = np.random.default_rng(seed)  # the very images that the seed chose before
        assert [part.tolist() for part in choice] == [
            rng.permutation(np.flatnonzero(labels == index))[:7].tolist() for index in range(CLASSES)
        ]
    wanted = np.unique(np.concatenate([part for choice in choices for part in choice]))
    assert len(wanted) <= 2 * 7 * CLASSES
    places = [[np.searchsorted(wanted, part) for part in choice] for choice in choices]
    alone = fewshot.few_shot_probe((features[wanted], labels[wanted]), test, CLASSES, **few, choices=places)
    assert alone == fewshot.few_shot_probe(*splits, CLASSES, **few, seeds=[3, 8])


def test_a_class_with_fewer_images_gives_all_it_has():
    ((zeros, ones),) = fewshot.choose_shots(np.array([1, 0, 1, -1, 1]), 2, 2, seeds=[0])
    assert zeros.tolist() == [1]
    assert len(set(ones.tolist()) & {0, 2, 4}) == 2


def test_bad_arguments_are_named(splits):
    with pytest.raises(ValueError, match=r"no training images of the classes \[3, 4\] of 5"):
        fewshot.few_shot_probe(*splits, 5)
    for shots in (0, 1.5, "5"):
        with pytest.raises(ValueError, match="`shots` must be a positive integer"):
            fewshot.few_shot_probe(*splits, CLASSES, shots=[shots])


def classifier(name):
    images = keras.Input((4, 4, 1))
    features = keras.layers.Dense(6, name=name)(keras.layers.Flatten()(images))
    return keras.Model(images, keras.layers.Dense(3, name="head")(features))


@pytest.mark.parametrize("name", ["pre_logits", "something"])
def test_features_are_what_the_head_reads(name):
    model = classifier(name)
    images = np.random.default_rng(0).normal(size=(7, 4, 4, 1)).astype("float32")
    features, labels = fewshot.extract_features(
        fewshot.feature_model(model), [(images[:4], np.arange(4)), (images[4:], np.arange(3))]
    )
    kernel, bias = model.get_layer("head").get_weights()
    np.testing.assert_allclose(features @ kernel + bias, model.predict(images, verbose=0), rtol=1e-4, atol=1e-5)
    assert labels.tolist() == [0, 1, 2, 3, 0, 1, 2]


def in_sequential(model):
    return keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Rescaling(0.5), model, keras.layers.Softmax()])


def in_functional(model):
    images = keras.Input((4, 4, 1))
    return keras.Model(images, keras.layers.Softmax()(model(keras.layers.Rescaling(0.5)(images))))


@pytest.mark.parametrize("name", ["pre_logits", "something"])
@pytest.mark.parametrize("wrap", [in_sequential, in_functional, lambda model: in_functional(in_sequential(model))])
def test_features_are_what_a_head_inside_another_model_reads(name, wrap):
    model = classifier(name)
    outer = wrap(model)
    images = np.random.default_rng(0).normal(size=(7, 4, 4, 1)).astype("float32")
    features = fewshot.feature_model(outer).predict(images, verbose=0)
    kernel, bias = model.get_layer("head").get_weights()
    scores = keras.ops.softmax(features @ kernel + bias)
    if wrap not in (in_sequential, in_functional):
        scores = keras.ops.softmax(scores)
    np.testing.assert_allclose(scores, outer.predict(images, verbose=0), rtol=1e-4, atol=1e-5)


def test_a_model_before_the_features_is_not_taken_for_a_head():
    images = keras.Input((4, 4, 1))
    body = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(5, 2)])
    vectors = keras.layers.GlobalAveragePooling2D()(body(images))
    assert fewshot.feature_model(keras.Model(images, keras.layers.Softmax()(vectors))).output_shape == (None, 5)


def test_a_model_without_vectors_before_its_head_is_refused():
    images = keras.Input((4, 4, 1))
    model = keras.Model(images, keras.layers.GlobalAveragePooling2D()(images))
    with pytest.raises(ValueError, match="one vector of features per image"):
        fewshot.feature_model(model)


def test_an_empty_split_is_refused():
    with pytest.raises(ValueError, match="holds no images"):
        fewshot.extract_features(fewshot.feature_model(classifier("pre_logits")), [])


RIDGE_CLASSES = 4


def problem(count, width, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, RIDGE_CLASSES, count)
    features = rng.normal(size=(count, width)) * rng.uniform(0.1, 10, width) + rng.normal(size=width)
    features[:, 0] += 3 * labels
    return features.astype("float32"), labels


def plain_solution(features, labels, penalty):
    x = features.astype("float64")
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-5)
    x = np.concatenate([x, np.full((len(x), 1), BIAS_FEATURE)], axis=1)
    y = np.where(labels[:, None] == np.arange(RIDGE_CLASSES), 1.0, -1.0)
    return np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)


@pytest.mark.parametrize("penalty", [2.0**-10, 1.0, 2.0**10, 2.0**19])
@pytest.mark.parametrize(("count", "width"), [(60, 9), (10, 9), (9, 9), (7, 30)], ids=["tall", "n=d+1", "n=d", "wide"])
def test_is_the_plain_solution(count, width, penalty):
    features, labels = problem(count, width)
    kernel = RidgePath(features, labels, RIDGE_CLASSES).solve(penalty)
    expected = plain_solution(features, labels, penalty)
    np.testing.assert_allclose(kernel, expected, rtol=1e-6, atol=1e-9)


def test_scores_are_the_regressed_targets():
    features, labels = problem(50, 6)
    path = RidgePath(features, labels, RIDGE_CLASSES)
    scores = path.scores(features, path.solve(1e-3))
    x = (features - features.mean(axis=0, dtype="float64")) / (features.std(axis=0, dtype="float64") + 1e-5)
    x = np.concatenate([x, np.full((50, 1), BIAS_FEATURE)], axis=1)
    np.testing.assert_allclose(scores, x @ plain_solution(features, labels, 1e-3), rtol=1e-5, atol=1e-6)


def test_a_class_without_examples_and_a_constant_feature():
    features, labels = problem(30, 5)
    features[:, 2] = 7.0
    labels[labels == 1] = 2
    path = RidgePath(features, labels, RIDGE_CLASSES)
    kernel = path.solve(1.0)
    np.testing.assert_allclose(kernel, plain_solution(features, labels, 1.0), rtol=1e-6, atol=1e-9)
    assert 1 not in path.scores(features, kernel).argmax(axis=1)


@pytest.mark.parametrize(("count", "width", "largest"), [(200, 8, 9), (8, 200, 8)])
def test_decomposes_the_smaller_matrix(count, width, largest, monkeypatch):
    seen = []
    original = np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda matrix: seen.append(matrix.shape) or original(matrix))
    RidgePath(*problem(count, width), RIDGE_CLASSES)
    assert seen == [(largest, largest)]


def test_bad_arguments_of_the_ridge_are_named():
    features, labels = problem(20, 5)
    with pytest.raises(ValueError, match="Expected features"):
        RidgePath(features, labels[:-1], RIDGE_CLASSES)
    with pytest.raises(ValueError, match="there are 2 classes"):
        RidgePath(features, labels, 2)
    with pytest.raises(ValueError, match="must be positive, but got 0"):
        RidgePath(features, labels, RIDGE_CLASSES).solve(0)
