"""The operations of RandAugment against Pillow's of the same names."""

import numpy as np
import PIL.Image
import PIL.ImageEnhance
import PIL.ImageOps
import pytest
import tensorflow as tf

from keras_mixer.data.augmentation import randaugment as image_ops


@pytest.fixture(params=["photograph", "noise", "dark", "grey", "small"])
def image(request, photograph):
    rng = np.random.default_rng(7)
    return {
        "photograph": photograph,
        "noise": rng.integers(0, 256, (31, 20, 3), dtype=np.uint8),
        "dark": rng.integers(40, 90, (31, 20, 3), dtype=np.uint8),
        "grey": photograph[..., 1:2],
        "small": (rng.integers(0, 17, (8, 8, 1)) * 15.9375).round().astype(np.uint8),
    }[request.param]


def pillow(image):
    return PIL.Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)


def pixels(image):
    values = np.asarray(image)
    return values[..., np.newaxis] if values.ndim == 2 else values


def check(result, expected, *, within=0):
    result = result.numpy()
    assert result.dtype == np.uint8
    assert result.shape == pixels(expected).shape
    difference = np.abs(result.astype(int) - pixels(expected).astype(int))
    assert difference.max() <= within


def test_autocontrast(image):
    check(image_ops.autocontrast(image), PIL.ImageOps.autocontrast(pillow(image)))


def test_equalize(image):
    check(image_ops.equalize(image), PIL.ImageOps.equalize(pillow(image)))


@pytest.mark.parametrize("operation", ["autocontrast", "equalize"])
def test_a_constant_image_stays(operation):
    constant = np.full((5, 6, 3), (0, 77, 255), np.uint8)
    check(getattr(image_ops, operation)(constant), constant)


def test_invert(image):
    check(image_ops.invert(tf.constant(image)), PIL.ImageOps.invert(pillow(image)))


@pytest.mark.parametrize("bits", [1, 4, 6, 8])
def test_posterize(image, bits):
    check(image_ops.posterize(image, bits), PIL.ImageOps.posterize(pillow(image), bits))


@pytest.mark.parametrize("threshold", [0, 1, 128, 255])
def test_solarize(image, threshold):
    check(image_ops.solarize(tf.constant(image), threshold), PIL.ImageOps.solarize(pillow(image), threshold))


@pytest.mark.parametrize("addition", [0, 110, 165, 255])
def test_solarize_add(image, addition):
    added = np.where(image < 128, np.minimum(image.astype(int) + addition, 255), image).astype(np.uint8)
    check(image_ops.solarize_add(tf.constant(image), addition), added)


# Pillow blends in double precision before it truncates, so that a value on a whole level may fall one lower.
@pytest.mark.parametrize("factor", [0.0, 0.1, 1.0, 1.9, 2.8, 3.7])
@pytest.mark.parametrize("operation", ["color", "contrast", "brightness", "sharpness"])
def test_enhancements(image, operation, factor):
    expected = getattr(PIL.ImageEnhance, operation.title())(pillow(image)).enhance(factor)
    check(getattr(image_ops, operation)(tf.constant(image), factor), expected, within=1)


def test_one_is_the_image(image):
    for operation in ("color", "contrast", "brightness", "sharpness"):
        check(getattr(image_ops, operation)(tf.constant(image), 1.0), image)


def affine(image, coefficients):
    """Pillow's affine map, which counts pixels from their centres: (x + 1/2, y + 1/2)."""
    a, b, c, d, e, f = coefficients
    moved = (a, b, c + 0.5 - (a + b) / 2, d, e, f + 0.5 - (d + e) / 2)
    fill = (128,) * image.shape[-1] if image.shape[-1] > 1 else 128
    size = (image.shape[1], image.shape[0])
    return pillow(image).transform(
        size, PIL.Image.Transform.AFFINE, moved, PIL.Image.Resampling.NEAREST, fillcolor=fill
    )


def agrees(result, expected, share):
    """Nearest neighbours may differ where a point falls between two pixels."""
    same = (result.numpy() == pixels(expected)).all(axis=-1)
    assert same.mean() >= share
    assert result.shape == pixels(expected).shape


@pytest.mark.parametrize("level", [-0.45, -0.31, 0.13, 0.6])
def test_shear(image, level):
    agrees(image_ops.shear_x(tf.constant(image), level), affine(image, (1, level, 0, 0, 1, 0)), 0.95)
    agrees(image_ops.shear_y(tf.constant(image), level), affine(image, (1, 0, 0, level, 1, 0)), 0.95)


@pytest.mark.parametrize("shift", [-1000, -7, 0, 3, 5])
def test_translate(image, shift):
    for operation, axis in ((image_ops.translate_x, 1), (image_ops.translate_y, 0)):
        size = image.shape[axis]
        expected = np.full_like(image, 128)
        kept = max(size - abs(shift), 0)
        source, target = (slice(size - kept, size), slice(0, kept))[:: 1 if shift >= 0 else -1]
        index = (slice(None),) * axis
        expected[(*index, target)] = image[(*index, source)]
        check(operation(tf.constant(image), float(shift)), expected)


@pytest.mark.parametrize("degrees", [-61.0, -44.0, 17.0, 31.0])
def test_rotate(image, degrees):
    fill = (128,) * image.shape[-1] if image.shape[-1] > 1 else 128
    expected = pillow(image).rotate(degrees, PIL.Image.Resampling.NEAREST, fillcolor=fill)
    agrees(image_ops.rotate(tf.constant(image), degrees), expected, 0.95)


def test_rotate_by_quarters(image):
    check(image_ops.rotate(tf.constant(image), 0.0), image)
    check(image_ops.rotate(tf.constant(image), 180.0), image[::-1, ::-1])


@pytest.mark.parametrize(("half", "center"), [((3, 2), (4, 5)), ((60, 60), (0, 0)), ((2, 2), (7, 7)), ((0, 0), (3, 3))])
def test_cutout(image, half, center):
    expected = image.copy()
    (top, left), (bottom, right) = (np.maximum(np.subtract(center, half), 0), np.add(center, half))
    expected[top:bottom, left:right] = 128
    check(image_ops.cutout(tf.constant(image), tf.constant(half), tf.constant(center)), expected)
