import keras
import numpy as np
import pytest

from keras_mixer import visualization
from keras_mixer.weights import InputPreprocessing

pytestmark = pytest.mark.backends


@pytest.fixture
def sum_of_a_corner():
    """Scores of two classes: the sum of the top left 2 x 2 pixels, and its negative."""
    images = keras.Input((8, 6, 1))
    corner = keras.layers.Flatten()(images[:, :2, :2])
    head = keras.layers.Dense(2, use_bias=False)
    model = keras.Model(images, head(corner))
    head.kernel.assign(np.tile([[1.0, -1.0]], (4, 1)))
    return model


def test_the_fall_is_what_was_covered(sum_of_a_corner):
    image = np.ones((8, 6, 1), "float32")
    fall = visualization.occlusion_saliency(sum_of_a_corner, image, window=2, stride=2)
    expected = np.zeros((8, 6))
    expected[:2, :2] = 4.0  # one window covers the corner, and takes all of its sum
    np.testing.assert_allclose(fall, expected, atol=1e-5)
    other = visualization.occlusion_saliency(sum_of_a_corner, image, class_index=1, window=2, stride=2)
    np.testing.assert_allclose(other, -expected, atol=1e-5)


def test_overlapping_windows_are_averaged(sum_of_a_corner):
    image = np.arange(48, dtype="float32").reshape(8, 6, 1)
    fall = visualization.occlusion_saliency(sum_of_a_corner, image, window=(3, 2), stride=1, fill=5.0, batch_size=7)
    total, covered = np.zeros((8, 6)), np.zeros((8, 6))
    for top in range(6):
        for left in range(5):
            covered_image = image.copy()
            covered_image[top : top + 3, left : left + 2] = 5.0
            total[top : top + 3, left : left + 2] += image[:2, :2].sum() - covered_image[:2, :2].sum()
            covered[top : top + 3, left : left + 2] += 1
    np.testing.assert_allclose(fall, total / covered, atol=1e-4)


def test_pixels_are_covered_with_the_mid_grey_of_the_models_scale():
    images = keras.Input((4, 4, 3))
    model = keras.Model(images, keras.layers.GlobalAveragePooling2D()(images))  # scores are the mean colour
    preprocessing = InputPreprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    white = np.broadcast_to((1 - np.array(preprocessing.mean)) / preprocessing.std, (4, 4, 3))
    for channel in range(3):
        covered = {"window": 4, "preprocessing": preprocessing}
        fall = visualization.occlusion_saliency(model, white, channel, **covered)
        np.testing.assert_allclose(fall, np.full((4, 4), 0.5 / preprocessing.std[channel]), rtol=1e-5)
        given = visualization.occlusion_saliency(model, white, channel, **covered, fill=(1.0, 2.0, 3.0))
        np.testing.assert_allclose(given, white[..., channel] - (channel + 1), rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(window=9), "larger than the image"),
        (dict(window=-1), "`window` must be a positive integer"),
        (dict(class_index=2), "scores 2 classes; got class 2"),
    ],
)
def test_bad_arguments_are_named(sum_of_a_corner, arguments, message):
    with pytest.raises(ValueError, match=message):
        visualization.occlusion_saliency(sum_of_a_corner, np.zeros((8, 6, 1)), **arguments)
