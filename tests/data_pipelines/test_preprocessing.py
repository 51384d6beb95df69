import io
import json

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from keras_mixer.data import Preprocessing, pixels


def pillow(image):
    return PIL.Image.fromarray(image)


def test_direct_resize_is_pillows(photograph, encoded):
    result = Preprocessing(image_size=(16, 24), resize="direct")(encoded(photograph)).numpy()
    expected = np.asarray(pillow(photograph).resize((24, 16), PIL.Image.Resampling.BILINEAR), np.float32)
    assert result.shape == (16, 24, 3)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected / 127.5 - 1, atol=1.01 / 127.5)  # Pillow rounds to whole levels


def test_crop_scales_the_shorter_side_to_eight_sevenths(photograph, encoded):
    result = Preprocessing(image_size=28)(encoded(photograph)).numpy()
    # 45 x 60: the shorter side becomes 28 * 256 / 224 = 32, the longer 42.67.
    resized = np.asarray(pillow(photograph).resize((43, 32), PIL.Image.Resampling.BILINEAR), np.float32)
    np.testing.assert_allclose(result, resized[2:30, 7:35] / 127.5 - 1, atol=1.01 / 127.5)


def test_the_share_of_the_crop_decides_how_far_the_image_is_scaled(photograph, encoded):
    """As ConvMixer's authors evaluate: 0.96 and bicubic. Pillow rounds between its two passes as well."""
    result = Preprocessing(image_size=24, interpolation="bicubic", crop_share=0.96)(encoded(photograph)).numpy()
    # 45 x 60: the shorter side becomes 24 / 0.96 = 25, the longer 33.33.
    resized = np.asarray(pillow(photograph).resize((33, 25), PIL.Image.Resampling.BICUBIC), np.float32)
    np.testing.assert_allclose(result, resized[0:24, 4:28] / 127.5 - 1, atol=2.02 / 127.5)


def test_squash_stretches_the_whole_image_before_the_crop(photograph, encoded):
    result = Preprocessing(image_size=(28, 14), resize="squash")(encoded(photograph)).numpy()
    resized = np.asarray(pillow(photograph).resize((16, 32), PIL.Image.Resampling.BILINEAR), np.float32)
    np.testing.assert_allclose(result, resized[2:30, 1:15] / 127.5 - 1, atol=1.01 / 127.5)


def test_crop_of_224_goes_through_256(encoded):
    wide = np.zeros((512, 1024, 3), np.uint8)
    wide[:, 496:528] = 255  # 16 px wide after halving, in the middle
    result = Preprocessing(image_size=224)(encoded(wide)).numpy()
    assert result.shape == (224, 224, 3)
    assert (result[0, :, 0] > 0).sum() == 16
    assert (result[0, 104:120, 0] > 0).all()


def plain_crop(image, preprocessing):
    """The formula of the crop, of the whole image whatever it takes."""
    side = preprocessing.image_size[0]
    scale = side * 256 / 224 / min(image.shape[:2])
    size = [max(side, round(length * scale)) for length in image.shape[:2]]
    resized = tf.image.resize(image, size, method=preprocessing.interpolation, antialias=True)
    top, left = ((length - side) // 2 for length in size)
    return np.clip(resized[top : top + side, left : left + side], 0, 255)


@pytest.mark.parametrize("interpolation", ["bilinear", "lanczos5", "nearest"])
@pytest.mark.parametrize("shape", [(45, 60), (60, 45), (500, 375), (41, 160), (31, 30)])
def test_crops_of_photographs_are_those_of_the_whole_image_to_the_bit(shape, interpolation):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    preprocessing = Preprocessing(image_size=28, interpolation=interpolation)
    np.testing.assert_array_equal(pixels.fit(image, preprocessing), plain_crop(image, preprocessing))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos5", "area"])
@pytest.mark.parametrize("shape", [(3, 901), (1, 640), (64, 3200), (63, 3201)])
def test_of_a_long_image_the_middle_is_seen(shape, interpolation):
    """The wave is the same to both sides of the centre, so a crop of another place or scale would differ."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    x = np.abs(x - (shape[1] - 1) / 2) / shape[0]
    wave = 128 + 60 * np.cos(3 * x) + 40 * np.cos(y / shape[0])
    image = np.stack([wave, 255 - wave, wave / 2], axis=-1).astype(np.uint8)
    preprocessing = Preprocessing(image_size=28, interpolation=interpolation)
    for given, axis in ((image, 1), (image.swapaxes(0, 1), 0)):
        expected = plain_crop(given, preprocessing)
        # Whole pixels of the scaled image may lie half a pixel beside those of the scaled whole.
        slope = np.abs(np.diff(expected, axis=axis)).max()
        assert np.abs(pixels.fit(given, preprocessing) - expected).max() <= 0.6 * slope + 1


@pytest.mark.parametrize(("height", "width"), [(1, 30_000), (30_000, 1)])
@pytest.mark.parametrize("resize", ["crop", "squash", "direct"])
def test_a_line_of_pixels_takes_no_more_memory_than_a_photograph(height, width, resize):
    """At 224 px the whole line would be scaled to 256 x 7,680,000 pixels, 24 GB: that it ends at all is the test."""
    line = np.arange(height * width).reshape(height, width, 1).repeat(3, axis=2) * (255 / (height * width))
    encoded = tf.io.encode_png(line.astype(np.uint8))
    preprocessing = Preprocessing(resize=resize)
    function = tf.function(preprocessing, input_signature=[tf.TensorSpec((), tf.string)])
    result = function(encoded).numpy()
    if resize == "crop":
        np.testing.assert_allclose(result, pixels.normalize(127.0, preprocessing), atol=1 / 127)
    else:
        profile = result[0] if height == 1 else result[:, 0]
        margin = 1 / 16 if resize == "squash" else 0
        expected = 2 * np.linspace(margin, 1 - margin, 224) - 1
        np.testing.assert_allclose(profile[:, 0], expected, atol=2 / 127)


@pytest.mark.parametrize("interpolation", ["bilinear", "lanczos3", "area", "nearest"])
def test_the_order_of_the_axes_does_not_matter(monkeypatch, interpolation):
    image = np.random.default_rng(0).integers(0, 256, (5, 300, 3), np.uint8)
    preprocessing = Preprocessing(image_size=28, resize="direct", interpolation=interpolation)
    expected = pixels.fit(image, preprocessing)
    monkeypatch.setattr("keras_mixer.data.pixels.UNFINISHED_LIMIT", 0)
    np.testing.assert_allclose(pixels.fit(image, preprocessing), expected, atol=1e-3)


@pytest.mark.parametrize("interpolation", ["bicubic", "area", "nearest", "lanczos3"])
def test_every_interpolation_stays_in_range(photograph, interpolation, encoded):
    result = Preprocessing(image_size=31, resize="direct", interpolation=interpolation)(encoded(photograph)).numpy()
    assert -1 <= result.min() < result.max() <= 1


@pytest.mark.parametrize(
    ("mean", "std", "low", "high"),
    [(0.5, 0.5, -1, 1), (0.0, 1.0, 0, 1), ((0.5, 0.25, 0.0), (0.5, 0.25, 1.0), None, None)],
)
def test_scale(mean, std, low, high):
    values = np.array([[0, 0, 0], [255, 255, 255], [51, 102, 153]], np.uint8)
    result = pixels.normalize(values, Preprocessing(mean=mean, std=std)).numpy()
    np.testing.assert_allclose(result, (values / 255 - np.array(mean)) / np.array(std), atol=1e-6)
    if low is not None:
        assert result.min() == low
        assert result.max() == high


def test_decodes_pngs_without_loss(photograph, encoded):
    assert (pixels.decode(encoded(photograph)).numpy() == photograph).all()


def test_decodes_jpegs_like_pillow(photograph, encoded):
    content = encoded(photograph, "JPEG", quality=90)
    expected = np.asarray(PIL.Image.open(io.BytesIO(content)))
    assert (pixels.decode(content).numpy() == expected).all()


def test_converts_colour_to_grey_and_back(photograph, encoded):
    grey = pixels.decode(encoded(photograph, "JPEG", quality=95), 1).numpy()
    assert grey.shape == (45, 60, 1)
    np.testing.assert_allclose(grey[..., 0], np.asarray(pillow(photograph).convert("L")), atol=4)
    colour = pixels.decode(encoded(photograph[..., :1]), 3).numpy()
    assert (colour == photograph[..., :1]).all()


def test_works_inside_a_function_of_unknown_sizes(photograph, encoded):
    preprocessing = Preprocessing(image_size=16)
    function = tf.function(preprocessing, input_signature=[tf.TensorSpec((), tf.string)])
    assert function.get_concrete_function().output_shapes == (16, 16, 3)
    np.testing.assert_allclose(function(encoded(photograph)), preprocessing(encoded(photograph)), atol=1e-6)


def test_a_list_for_each_channel_is_a_tuple():
    listed = Preprocessing(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    same = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert (listed, hash(listed)) == (same, hash(same))
    mean = np.array(same.mean)
    assert Preprocessing(mean=mean, std=tuple(map(np.float64, same.std))) == same
    assert json.loads(Preprocessing(mean=np.float32(0.5), std=np.ones(3, "float32")).to_json())["std"] == [1.0] * 3
    with pytest.raises(ValueError, match="must be positive"):
        Preprocessing(std=[1.0, 0.0, 1.0])


def test_json_round_trip():
    preprocessing = Preprocessing(image_size=(32, 48), channels=3, resize="direct", mean=(0.1, 0.2, 0.3), std=0.25)
    assert Preprocessing.from_json(preprocessing.to_json()) == preprocessing
    assert preprocessing.input_shape == (32, 48, 3)


def test_cards_from_before_the_share_of_the_crop_are_read():
    fields = json.loads(Preprocessing(image_size=32).to_json())
    assert fields.pop("crop_share") == 0.875
    assert Preprocessing.from_json(json.dumps(fields)) == Preprocessing(image_size=32)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"image_sizes": 3}', "unknown: .'image_sizes'."),
        ('{"image_size": 7.5}', r"image_size must be a list such as \[224, 224\], but got 7.5"),
        ('{"image_size": [7.5, 8]}', "image_size must be of type int, but got 7.5"),
        ('{"std": "x"}', "std must be a finite number, but got 'x'"),
        ('{"mean": [0.5, null, 0.5]}', "mean must be a finite number, but got None"),
        ('{"mean": NaN}', "mean must be a finite number"),
        ("[]", "JSON object"),
        ("{", "Expecting property name"),
    ],
)
def test_bad_json(text, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing.from_json(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 0}, "pair of pixels"),
        ({"image_size": (8, 8, 3)}, "pair of pixels"),
        ({"channels": 0}, "at least 1, but got 0"),
        ({"resize": "stretch"}, "crop, squash, direct, but got 'stretch'"),
        ({"interpolation": "cubic"}, "bicubic"),
        ({"mean": (0.5, 0.5)}, "one per channel"),
        ({"std": 0.0}, "must be positive"),
        ({"crop_share": 0.0}, "0 < crop_share <= 1"),
        ({"crop_share": 1.2}, "0 < crop_share <= 1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(**arguments)


def test_files_decode_to_colour_or_grey_alone(photograph, encoded):
    with pytest.raises(ValueError, match=r"3 channels \(RGB\) or 1 \(grey\), but the model takes 4"):
        Preprocessing(channels=4)(encoded(photograph))
