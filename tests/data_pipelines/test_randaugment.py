import numpy as np
import pytest
import tensorflow as tf

from keras_mixer.data.augmentation import randaugment as image_ops
from keras_mixer.data.augmentation.randaugment import DRAWS_PER_LAYER, NAMES, arguments, randaugment


def test_the_operations_of_the_papers_code():
    assert len(NAMES) == 16
    assert [name for name, value in arguments(10).items() if value is None] == ["autocontrast", "equalize", "invert"]


# Worked out by hand from the definitions of the AutoAugment code: level / 10 of 30 degrees, 0.3, 100 px and 40 px at
# 224, 1.8 (and 0.1 more), 4 bits, 256 and 110 grey levels.
@pytest.mark.parametrize(
    ("magnitude", "expected"),
    [
        (5, {"rotate": 15, "shear_x": 0.15, "color": 1.0, "posterize": 2, "solarize": 128, "solarize_add": 55}),
        (10, {"rotate": 30, "shear_y": 0.3, "contrast": 1.9, "posterize": 4, "solarize": 0, "solarize_add": 110}),
        (15, {"rotate": 45, "shear_x": 0.45, "sharpness": 2.8, "posterize": 6, "solarize": 128, "solarize_add": 165}),
        (20, {"rotate": 60, "shear_x": 0.6, "brightness": 3.7, "posterize": 8, "solarize": 0, "solarize_add": 220}),
        (30, {"posterize": 8, "solarize_add": 255}),
        (0, {"rotate": 0, "color": 0.1, "posterize": 1, "solarize": 0, "solarize_add": 0}),
    ],
)
def test_levels(magnitude, expected):
    values = arguments(magnitude)
    assert {name: values[name] for name in expected} == pytest.approx(expected)
    assert values["translate_x"] * 224 == pytest.approx(10 * magnitude)
    assert values["cutout"] * 224 == pytest.approx(4 * magnitude)


@pytest.fixture(scope="module")
def one_layer():
    return tf.function(lambda image, draws: randaugment(image, draws, 13.0))


def expected_results(image, u_sign, center):
    """What each operation gives at magnitude 13, by direct calls."""
    height, width, _ = image.shape
    sign = -1.0 if u_sign < 0.5 else 1.0
    values = arguments(13.0)
    results = {}
    for name in NAMES:
        operation = getattr(image_ops, name)
        if name in ("rotate", "shear_x", "shear_y"):
            results[name] = operation(image, sign * values[name])
        elif name in ("translate_x", "translate_y"):
            results[name] = operation(image, sign * values[name] * (width if name == "translate_x" else height))
        elif name == "cutout":
            half = tf.constant([int(values[name] * height), int(values[name] * width)])
            results[name] = operation(image, half, tf.constant([int(center[0] * height), int(center[1] * width)]))
        else:
            results[name] = operation(image, *([] if values[name] is None else [values[name]]))
    return results


@pytest.mark.parametrize("shape", [(32, 32, 3), (8, 8, 1), (2, 2, 1)])
@pytest.mark.parametrize("u_sign", [0.2, 0.7])
def test_each_draw_selects_its_operation(one_layer, shape, u_sign):
    image = tf.constant(np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8))
    for index, (name, expected) in enumerate(expected_results(image, u_sign, (0.3, 0.6)).items()):
        draws = tf.constant([[(index + 0.5) / 16, u_sign, 0.3, 0.6]])
        result = one_layer(image, draws)
        assert result.shape == shape
        np.testing.assert_array_equal(result, expected, err_msg=name)


def test_layers_follow_one_another(one_layer):
    image = tf.constant(np.random.default_rng(2).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    draws = tf.random.stateless_uniform((2, DRAWS_PER_LAYER), (0, 3))
    both = randaugment(image, draws, 13.0)
    np.testing.assert_array_equal(both, one_layer(one_layer(image, draws[:1]), draws[1:]))


def test_no_layers_leave_the_image():
    image = tf.constant(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    np.testing.assert_array_equal(randaugment(image, tf.zeros((0, DRAWS_PER_LAYER)), 10.0), image)
