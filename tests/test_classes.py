import pathlib

import numpy as np
import pytest

import keras_mixer
from keras_mixer.card import ModelCard
from keras_mixer.classes import best_classes
from keras_mixer.evaluation import Predictor, class_subset, save_prediction_sheet
from keras_mixer.evaluation.pictures import draw_confusion
from keras_mixer.preprocessing import Preprocessing
from keras_mixer.serving import Client

NAMES = ("cat", "hérisson", "dog")
NOT_NAMES = [
    "cat",
    b"cat",
    pathlib.Path("names.txt"),
    {0: "cat", 1: "hérisson", 2: "dog"},
    {"cat", "hérisson", "dog"},
    3,
    ["cat", 1, "dog"],
    [["cat", "hérisson", "dog"]],
    [b"cat", b"h\xe9risson", b"dog"],
]
KINDS = [
    list(NAMES),
    np.array(NAMES),
    np.array([name.encode() for name in NAMES]),
    np.array(NAMES, object),
    iter(NAMES),
    dict.fromkeys(NAMES).keys(),
]


def sheet(names):
    predictor = Predictor("numpy", lambda images: np.eye(3, dtype="float32")[: len(images)])
    save_prediction_sheet(predictor, [(np.zeros((2, 4, 4, 3)), np.array([0, 1]))], names, "unused.png")


# Public functions that take names of classes.
TAKERS = {
    "decode_predictions": lambda names: keras_mixer.decode_predictions(np.eye(3), class_names=names),
    "ModelCard": lambda names: ModelCard("pets", names, Preprocessing()),
    "class_subset": lambda names: class_subset(names, NAMES),
    "class_subset, wanted": lambda names: class_subset(NAMES, names),
    "draw_confusion": lambda names: draw_confusion(np.eye(3, dtype=int), names),
    "save_prediction_sheet": sheet,
    "Client": lambda names: Client("http://127.0.0.1:9", model="pets", labels=names),
}


@pytest.mark.parametrize("names", KINDS, ids=lambda names: type(names).__name__)
def test_sequences_and_arrays_of_strings_are_names(names, tmp_path):
    card = ModelCard("pets", names, Preprocessing())
    assert card.class_names == NAMES
    assert {type(name) for name in card.class_names} == {str}
    card.save(tmp_path / "model.json")
    assert ModelCard.load(tmp_path / "model.json") == card


@pytest.mark.parametrize(
    "names", [kind for kind in KINDS if isinstance(kind, np.ndarray)], ids=lambda kind: str(kind.dtype)
)
def test_decoded_names_are_plain_strings(names):
    (best,) = keras_mixer.decode_predictions([[0.1, 0.7, 0.2]], top=1, class_names=names)
    assert best == [("hérisson", "hérisson", pytest.approx(0.7))]
    assert type(best[0][0]) is str


@pytest.mark.parametrize("names", NOT_NAMES, ids=lambda names: type(names).__name__)
@pytest.mark.parametrize("taker", TAKERS)
def test_every_function_refuses_what_is_not_a_sequence_of_strings(taker, names):
    with pytest.raises(ValueError, match=r"must be a sequence of names|must hold strings"):
        TAKERS[taker](names)


def test_the_error_says_how_to_pass_a_dict_or_a_file():
    with pytest.raises(ValueError, match=r"pass `\[names\[number\] for number in sorted\(names\)\]`"):
        ModelCard("pets", {0: "cat"}, Preprocessing())
    with pytest.raises(ValueError, match=r"read_text\(\)\.splitlines\(\)"):
        ModelCard("pets", "names.txt", Preprocessing())


@pytest.mark.parametrize("taker", ["decode_predictions", "draw_confusion", "save_prediction_sheet"])
def test_another_number_of_names_than_classes_is_refused(taker):
    with pytest.raises(ValueError, match=r"2 names|\(batch, 2\)"):
        TAKERS[taker](NAMES[:2])


@pytest.mark.parametrize(
    ("scores", "order"),
    [
        ([0.2, 0.5, 0.3], [1, 2, 0]),
        ([0.3, 0.3, 0.3], [0, 1, 2]),
        ([np.nan, 0.1, 0.6], [2, 1, 0]),
        ([np.nan, -np.inf, np.inf], [2, 1, 0]),
        (np.array([0, 5, 1], "uint8"), [1, 2, 0]),
        (np.array([-128, 5, 1], "int8"), [1, 2, 0]),
        ([False, True, False], [1, 0, 2]),
    ],
)
def test_best_classes_of_any_kind_of_scores(scores, order):
    assert best_classes(scores, 3).tolist() == order
    assert best_classes([scores, scores], 7).tolist() == [order, order]  # all, if there are fewer
    (best,) = keras_mixer.decode_predictions([scores], class_names=NAMES)
    assert [name for name, _, _ in best] == [NAMES[index] for index in order]


@pytest.mark.parametrize("top", [0, -1, 1.5, True, "2"])
def test_the_number_of_best_classes_is_a_positive_integer(top):
    with pytest.raises(ValueError, match="`top` must be a positive integer"):
        best_classes([0.5, 0.5], top)
    with pytest.raises(ValueError, match="`top` must be a positive integer"):
        Client("http://127.0.0.1:9", model="pets").predict([np.zeros((4, 4, 3), "float32")], top=top)
