import keras
import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.preprocessing import StandardScaler

from keras_mixer.evaluation import fewshot

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
    with pytest.raises(ValueError, match="`shots` are positive"):
        fewshot.few_shot_probe(*splits, CLASSES, shots=[0])


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


def test_a_model_without_vectors_before_its_head_is_refused():
    images = keras.Input((4, 4, 1))
    model = keras.Model(images, keras.layers.GlobalAveragePooling2D()(images))
    with pytest.raises(ValueError, match="one vector of features per image"):
        fewshot.feature_model(model)


def test_an_empty_split_is_refused():
    with pytest.raises(ValueError, match="holds no images"):
        fewshot.extract_features(fewshot.feature_model(classifier("pre_logits")), [])
