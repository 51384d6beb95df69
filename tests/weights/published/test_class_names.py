import json

import keras
import numpy as np
import pytest

import keras_mixer

INDEX = "/download.tensorflow.org/data/imagenet_class_index.json"
IDS, LEMMAS = "/bit_models/imagenet21k_wordnet_ids.txt", "/bit_models/imagenet21k_wordnet_lemmas.txt"


@pytest.fixture
def names(server):
    """Files of the published forms, served as they are published."""
    server.files[INDEX] = json.dumps({str(i): [f"n{i:08}", f"class_{i}"] for i in range(1000)}).encode()
    server.files[IDS] = "".join(f"n{i:08}\n" for i in range(21_843)).encode()
    server.files[LEMMAS] = "".join(f"lemma_{i}, other_{i}\n" for i in range(21_843)).encode()
    return server


def scores(classes, **values):
    result = np.zeros((1, classes), "float32")
    for index, value in values.items():
        result[0, int(index[1:])] = value
    return result


@pytest.mark.backends
def test_a_thousand_classes(names):
    probabilities = np.concatenate([scores(1000, _7=0.5, _999=0.3, _0=0.2), scores(1000, _3=1.0)])
    first, second = keras_mixer.decode_predictions(keras.ops.convert_to_tensor(probabilities), top=3)
    assert [entry[:2] for entry in first] == [
        ("n00000007", "class_7"),
        ("n00000999", "class_999"),
        ("n00000000", "class_0"),
    ]
    assert [entry[2] for entry in first] == pytest.approx([0.5, 0.3, 0.2])
    assert second[0] == ("n00000003", "class_3", 1.0)


def test_21843_classes_and_five_by_default(names):
    (best,) = keras_mixer.decode_predictions(scores(21_843, _21842=0.9, _1=0.05))
    assert best[:2] == [
        ("n00021842", "lemma_21842, other_21842", pytest.approx(0.9)),
        ("n00000001", "lemma_1, other_1", pytest.approx(0.05)),
    ]
    assert len(best) == 5


def test_all_of_fewer_than_five_classes_by_default():
    (best,) = keras_mixer.decode_predictions(scores(3, _2=0.9, _0=0.1), class_names=["cat", "dog", "frog"])
    assert [name for name, _, _ in best] == ["frog", "cat", "dog"]


def test_wordnet_ids_in_the_order_of_the_scores(names):
    assert keras_mixer.weights.wordnet_ids(1000) == tuple(f"n{i:08}" for i in range(1000))
    assert keras_mixer.weights.wordnet_ids(21_843)[::21_842] == ("n00000000", "n00021842")
    with pytest.raises(ValueError, match="this one has 11,221"):
        keras_mixer.weights.wordnet_ids(11_221)


def test_names_are_fetched_once(names, monkeypatch):
    keras_mixer.decode_predictions(scores(1000))
    keras_mixer.decode_predictions(scores(21_843))
    assert names.requests == [INDEX, IDS, LEMMAS]
    monkeypatch.setenv("KERAS_MIXER_WEIGHTS_BASE_URL", "http://127.0.0.1:9")
    keras_mixer.decode_predictions(scores(1000))
    keras_mixer.decode_predictions(scores(21_843))


def test_without_names_the_error_says_what_to_do(names, cache):
    names.files.clear()
    with pytest.raises(OSError, match=r"imagenet_class_index\.json.*KERAS_MIXER_WEIGHTS_BASE_URL") as error:
        keras_mixer.decode_predictions(scores(1000))
    assert str(cache / "imagenet_class_index.json") in str(error.value)


@pytest.mark.parametrize("content", [b"{}", b"[1]", b"\xff\xfe", b'{"0": "ab"}', b"not json"])
def test_a_damaged_index_is_named(names, content):
    names.files[INDEX] = content
    with pytest.raises(ValueError, match="index of the 1,000 classes"):
        keras_mixer.decode_predictions(scores(1000))


def test_a_short_list_is_named(names):
    names.files[LEMMAS] = b"one\ntwo\n"
    with pytest.raises(ValueError, match=r"lemmas\.txt has 2 lines"):
        keras_mixer.decode_predictions(scores(21_843))


@pytest.mark.parametrize("shape", [(1000,), (2, 11_221), (1, 1, 1000)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"\(batch, 1000\) or \(batch, 21843\)"):
        keras_mixer.decode_predictions(np.zeros(shape))


def test_classes_that_the_caller_names():
    names = keras_mixer.weights.names_of(keras_mixer.weights.find("mixer_nano", "cifar10"))
    (best,) = keras_mixer.decode_predictions(scores(10, _3=0.5, _9=0.25), top=2, class_names=names)
    assert best == [("cat", "cat", 0.5), ("truck", "truck", 0.25)]  # the order of CIFAR-10's own labels
    for shape in ((10,), (1, 1000)):
        with pytest.raises(ValueError, match=r"scores of shape \(batch, 10\), but got"):
            keras_mixer.decode_predictions(np.zeros(shape), class_names=names)
    with pytest.raises(ValueError, match=r"got \(1, 10\)\. `class_names` names the classes"):
        keras_mixer.decode_predictions(np.zeros((1, 10)))


@pytest.mark.parametrize("top", [0, -1, 1001, 2.5, True, "all"])
def test_top_is_a_count_of_classes(top):
    with pytest.raises(ValueError, match="from 1 to 1000"):
        keras_mixer.decode_predictions(np.zeros((1, 1000)), top=top)
