import numpy as np
import pytest

from keras_mixer.data import Preprocessing
from keras_mixer.shapes import boolean, integer, is_finite, pair_of_positive_integers, positive_integer

NOT_ONE = [2.7, 2.0, np.float32(2.0), np.array(2.7), np.array([2]), True, np.True_, np.array(True), "2", None]


@pytest.mark.parametrize("value", [-3, np.int8(-3), np.array(-3)])
def test_integers_of_numpy_are_integers_of_python(value):
    assert integer(value) == -3
    assert type(integer(value)) is int


@pytest.mark.parametrize("value", NOT_ONE, ids=repr)
def test_anything_else_is_not_an_integer(value):
    assert integer(value) is None
    with pytest.raises(ValueError, match="`num_blocks` must be a positive integer"):
        positive_integer("num_blocks", value)
    with pytest.raises(ValueError, match="`channels` is a number"):
        Preprocessing(channels=value)


def test_a_switch_is_true_or_false_or_one_or_zero():
    for value in (True, False, np.True_, np.False_, 1, 0, np.int64(1)):
        assert boolean("untied", value) is bool(value)
    for value in ("no", 2, 1.0, None, []):
        with pytest.raises(ValueError, match="`untied` must be True or False"):
            boolean("untied", value)


def test_numbers_beyond_the_largest_float_are_not_finite():
    assert all(map(is_finite, (1, -2.5, np.float16(3), 10**300)))
    assert not any(map(is_finite, (10**400, float("inf"), float("nan"), np.float32("-inf"), True, "1", None)))


@pytest.mark.parametrize("value", [2, np.array(2), [2, 2], np.array([2, 2]), (np.int64(2), np.array(2))], ids=repr)
def test_one_integer_or_two_are_a_pair(value):
    assert pair_of_positive_integers("patch_size", value) == (2, 2)
    assert Preprocessing(image_size=value).image_size == (2, 2)


@pytest.mark.parametrize("value", ["22", 2.0, [2], [2, 0], [2, True], [2, 2.5]], ids=repr)
def test_anything_else_is_not_a_pair(value):
    with pytest.raises(ValueError, match="patch_size"):
        pair_of_positive_integers("patch_size", value)
    with pytest.raises(ValueError, match="`image_size` is a pair"):
        Preprocessing(image_size=value)


def test_tensors_of_tensorflow():
    tf = pytest.importorskip("tensorflow")
    assert integer(tf.constant(3)) == 3
    assert integer(tf.constant(2.7)) is None
