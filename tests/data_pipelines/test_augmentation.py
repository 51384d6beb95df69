import io

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from keras_mixer.data import Augmentation, Preprocessing, pixels
from keras_mixer.data.augmentation import crop, steps

SMALL = Preprocessing(image_size=16)


def many(augmentation, image, preprocessing=SMALL, count=400):
    """The results of `count` seeds, in one array."""
    image = tf.constant(image)

    @tf.autograph.experimental.do_not_convert
    def one(number):
        return augmentation.augment(image, preprocessing, tf.stack([5, number]))

    return np.stack(list(tf.data.Dataset.range(count).map(one, num_parallel_calls=2).as_numpy_iterator()))


def ramp(height, width):
    """Red tells the row, green the column."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([y, x, np.zeros_like(x)], axis=-1).astype(np.uint8)


def test_inception_crops_cover_the_stated_boxes(encoded):
    image = ramp(200, 250)
    crops = many(Augmentation(crop_area=(0.1, 0.8), flip=False), encoded(image), count=600).astype(float)
    # Across a crop of n pixels the 16 samples of the ramp span n * 15 / 16.
    heights = (crops[:, -1, 0, 0] - crops[:, 0, 0, 0]) * 16 / 15
    widths = (crops[:, 0, -1, 1] - crops[:, 0, 0, 1]) * 16 / 15
    areas, ratios = heights * widths / (200 * 250), widths / heights
    assert areas.min() > 0.09
    assert areas.max() < 0.83
    assert ratios.min() > 0.75 * 0.94
    assert ratios.max() < 4 / 3 * 1.06
    for common in (areas < 0.2, areas > 0.6, ratios < 0.9, ratios > 1.1):
        assert common.mean() > 0.05
    # Everywhere in the image.
    centers = crops[:, :, :, :2].mean(axis=(1, 2))
    assert centers.min(axis=0).max() < 70
    assert centers.max(axis=0)[0] > 130
    assert centers.max(axis=0)[1] > 180


def test_boxes_have_the_stated_area_and_ratio():
    augmentation = Augmentation(crop_area=(0.3, 0.6), crop_ratio=(0.5, 2.0))
    draws = np.random.default_rng(0).random((500, crop.ATTEMPTS, 4), np.float32)
    boxes = np.array([crop.random_box(one, 200, 150, augmentation) for one in draws])
    top, left, height, width = boxes.T
    assert (boxes >= 0).all()
    assert (top + height <= 200).all()
    assert (left + width <= 150).all()
    areas, ratios = height * width / (200 * 150), width / height
    assert areas.min() >= 0.3
    assert areas.max() <= 0.6
    assert ratios.min() > 0.49
    assert ratios.max() < 2.02
    free = np.array([200, 150]) - boxes[:, 2:]
    down, right = (boxes[:, axis][free[:, axis] > 30] / free[:, axis][free[:, axis] > 30] for axis in (0, 1))
    for values, start, stop in ((areas, 0.3, 0.6), (down, 0, 1), (right, 0, 1)):
        assert values.min() < start + 0.05 * (stop - start)
        assert values.max() > stop - 0.05 * (stop - start)
    # No box of this ratio covers so much.
    never = Augmentation(crop_area=(0.9, 1.0), crop_ratio=(4.0, 5.0))
    np.testing.assert_array_equal(crop.random_box(draws[0], 200, 150, never), (0, 0, 200, 150))


@pytest.mark.parametrize("ratio", [0.75, 0.9, 1.1, 4 / 3])
def test_the_largest_box_is_as_tall_as_the_width_allows(ratio):
    augmentation = Augmentation(crop_area=(0.001, 1.0), crop_ratio=(ratio, ratio))
    largest = np.array([[0, 1 - 2**-24, 0, 0]], "float32")
    for width in range(5, 60):
        fitting = [tall for tall in range(1, 200) if round(tall * ratio) <= width]
        box = crop.random_box(largest, 200, width, augmentation)
        np.testing.assert_array_equal(box, (0, 0, fitting[-1], round(fitting[-1] * ratio)))


def test_fused_decoding_gives_the_crop_of_the_decoded_image(encoded, photograph):
    content = encoded(photograph, "JPEG", quality=95, subsampling=0)
    decoded = np.asarray(PIL.Image.open(io.BytesIO(content)))
    augmentation = Augmentation(flip=False)
    fused, separate = many(augmentation, content, count=50), many(augmentation, decoded, count=50)
    # The fused decoder uses the fast inverse DCT.
    assert np.abs(fused.astype(int) - separate.astype(int)).max() <= 4


def test_crops_of_a_png_are_those_of_its_pixels(encoded, photograph):
    augmentation = Augmentation(crop_area=(0.08, 1.0))
    np.testing.assert_array_equal(
        many(augmentation, encoded(photograph), count=50), many(augmentation, photograph, count=50)
    )


def test_every_other_image_is_mirrored(photograph):
    results = many(Augmentation(crop="none"), photograph)
    plain = np.round(pixels.fit(photograph, SMALL)).astype(np.uint8)
    mirrored = [(result == plain[:, ::-1]).all() for result in results]
    assert all(flipped or (result == plain).all() for flipped, result in zip(mirrored, results, strict=True))
    assert 0.4 < np.mean(mirrored) < 0.6


def test_pad_shifts_by_up_to_the_padding():
    image = np.random.default_rng(0).integers(1, 256, (8, 8, 1), dtype=np.uint8)
    digits = Preprocessing(image_size=8, channels=1, resize="direct")
    results = many(Augmentation(crop="pad", crop_padding=1, flip=False), image, digits, count=200)
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    windows = {(y, x): padded[y : y + 8, x : x + 8].tobytes() for y in range(3) for x in range(3)}
    assert {result.tobytes() for result in results} == set(windows.values())


def test_no_crop_is_what_evaluation_sees(encoded, photograph):
    for preprocessing in (SMALL, Preprocessing(image_size=(8, 12), resize="direct")):
        results = many(Augmentation(crop="none", flip=False), encoded(photograph), preprocessing, count=2)
        np.testing.assert_array_equal(results[0], np.round(pixels.fit(photograph, preprocessing)).astype(np.uint8))
        np.testing.assert_array_equal(results[0], results[1])


@pytest.mark.parametrize("shape", [(8, 8, 1), (32, 32, 3)])
def test_small_images_go_through_everything(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    preprocessing = Preprocessing(image_size=shape[:2], channels=shape[2], resize="direct")
    results = many(Augmentation(randaugment_layers=2, randaugment_magnitude=15), image, preprocessing, count=100)
    assert results.shape == (100, *shape)
    assert len({result.tobytes() for result in results}) > 90


def test_the_seed_decides(photograph):
    augmentation = Augmentation(randaugment_layers=1)
    np.testing.assert_array_equal(many(augmentation, photograph, count=20), many(augmentation, photograph, count=20))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crop": "random"}, "inception, pad, none, but got 'random'"),
        ({"crop_area": (0.0, 1.0)}, "0 < least <= greatest <= 1"),
        ({"crop_area": (0.5, 1.1)}, "`crop_area`"),
        ({"crop_ratio": (2.0, 1.0)}, "`crop_ratio`"),
        ({"crop_area": 0.5}, "crop_area must be a list .* but got 0.5"),
        ({"crop_area": "01"}, "crop_area must be a list .* but got '01'"),
        ({"crop_ratio": (1.0, float("inf"))}, "crop_ratio must be a finite number"),
        ({"randaugment_layers": -1}, "`randaugment_layers` is at least 0"),
        ({"randaugment_layers": 1.5}, "randaugment_layers must be of type int, but got 1.5"),
        ({"crop_padding": True}, "crop_padding must be of type int"),
        ({"randaugment_magnitude": "10"}, "randaugment_magnitude must be a finite number"),
        ({"mixup": float("nan")}, "mixup must be a finite number"),
        ({"cutmix": float("inf")}, "cutmix must be a finite number"),
        ({"flip": "no"}, "flip must be of type bool, but got 'no'"),
        ({"flip": 1}, "flip must be of type bool, but got 1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**arguments)


def test_numbers_of_numpy_become_those_of_python():
    made = Augmentation(crop_area=np.array([0.5, 1]), crop_padding=np.int64(2), mixup=np.float32(0.5), flip=np.False_)
    assert made == Augmentation(crop_area=(0.5, 1.0), crop_padding=2, mixup=0.5, flip=False)
    values = (*made.crop_area, made.crop_padding, made.mixup, made.flip)
    assert [type(value) for value in values] == [float, float, int, float, bool]


def test_a_further_step_leaves_the_draws_of_the_others_alone(monkeypatch):
    augmentation = Augmentation(randaugment_layers=2)
    preprocessing = Preprocessing((16, 16), channels=3)
    image = tf.constant(np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8))
    seed = tf.constant([3, 4], tf.int64)
    plain = augmentation.augment(image, preprocessing, seed)
    seeds = []

    def negative(pixels, settings, seed):
        assert settings is augmentation
        seeds.append(seed.numpy().tolist())
        return 255 - pixels

    further = steps.Step(tensorflow=negative, jax=negative)
    monkeypatch.setattr(steps, "STEPS", [*steps.STEPS, further, further])
    np.testing.assert_array_equal(augmentation.augment(image, preprocessing, seed), plain)
    assert seeds[0] != seeds[1]
