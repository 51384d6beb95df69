"""The augmentation of the compiled step, against that of the graph, and the stream that needs nothing but its place."""

import itertools

import jax
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from keras_mixer.data import Augmentation, CorruptImages, CorruptImagesError, Preprocessing, device, pixels
from keras_mixer.data.augmentation import crop, mixing, randaugment
from keras_mixer.data.sources import open_source
from keras_mixer.dataset import DatasetSpec

NAMES = randaugment.NAMES
# Where both forms compute in whole numbers, or gather pixels.
EXACT = {*NAMES} - {"autocontrast", "color", "contrast", "brightness", "sharpness"}
EVERYTHING = Augmentation(crop="pad", crop_padding=1, mixup=0.3, cutmix=1.0)


@pytest.mark.parametrize("magnitude", [7, 15, 20])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_operation_of_randaugment_is_that_of_the_graph(channels, magnitude):
    random = np.random.default_rng(magnitude)
    smooth = np.add.outer(np.arange(20) * 5, np.arange(17) * 7)[..., None] // np.arange(1, channels + 1)
    images = [random.integers(30, 220, (20, 17, channels)), smooth, np.full((20, 17, channels), 90)]
    images = np.stack(images).astype(np.uint8)
    in_jax = jax.jit(jax.vmap(lambda *given: randaugment.randaugment_jax(*given, magnitude), in_axes=(0, None)))
    in_graph = tf.function(lambda *given: randaugment.randaugment(*given, magnitude), autograph=False)
    for (place, name), sign in itertools.product(enumerate(NAMES), (0.2, 0.8)):
        draws = np.float32([[(place + 0.5) / len(NAMES), sign, *random.random(2)]])
        for our, image in zip(np.asarray(in_jax(images, draws)), images, strict=True):
            theirs = in_graph(tf.constant(image), tf.constant(draws)).numpy()
            assert our.dtype == theirs.dtype
            apart = np.abs(our.astype(int) - theirs).max()
            assert apart <= (0 if name in EXACT else 1), (name, magnitude, sign, apart)


@pytest.mark.parametrize(
    "chances", [{"mixup": 0.5, "cutmix": 0}, {"mixup": 0, "cutmix": 1.0}, {"mixup": 0.5, "cutmix": 1.0}]
)
def test_mixing_is_that_of_the_graph(chances):
    random = np.random.default_rng(0)
    images, labels = random.random((6, 9, 12, 3), np.float32) * 255, np.eye(6, dtype=np.float32)
    for number in range(4):
        mixture = mixing.draw_jax((9, 12), **chances, key=jax.random.key(number))
        assert mixture is not None
        ours = mixing.mix_jax(images, labels, mixture)
        theirs = mixing.mix(
            tf.constant(images),
            tf.constant(labels),
            jax.tree.map(lambda value: tf.constant(np.asarray(value)), mixture),
        )
        for our, their in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(our, their, rtol=0, atol=1e-4)
            assert len(np.unique(np.asarray(ours[1]))) > 1
        if not chances["mixup"]:  # the label says how many pixels stayed
            stayed = (np.asarray(ours[0]) == images).all(axis=-1).mean(axis=(1, 2))
            np.testing.assert_allclose(np.diag(ours[1]), stayed, atol=1e-6)


def test_mixing_draws_from_the_distributions_of_the_graph():
    numbers = np.arange(3000)
    options = {"mixup": 0.4, "cutmix": 0.7}
    ours = jax.vmap(lambda number: mixing.draw_jax((16, 24), **options, key=jax.random.key(number)))(numbers)
    theirs = tf.data.Dataset.range(3000).map(
        lambda number: mixing.draw((16, 24), **options, seed=tf.stack([7, number]))
    )
    theirs = [np.array([getattr(one, name) for one in theirs.as_numpy_iterator()]) for name in ("share", "label_share")]
    for our, their in zip((ours.share, ours.label_share), theirs, strict=True):
        assert scipy.stats.ks_2samp(np.asarray(our), their, method="asymp").pvalue > 1e-3


def test_boxes_have_the_distribution_of_tensorflow():
    augmentation = Augmentation(crop_area=(0.08, 1.0))
    for height, width in ((60, 80), (20, 200), (5, 300)):
        draws = jax.vmap(lambda number: crop.box_draws(jax.random.key(number)))(np.arange(3000))
        ours = np.array([crop.random_box(draw, height, width, augmentation) for draw in np.asarray(draws)])

        def box(number, shape=(height, width, 3)):
            begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
                shape, tf.zeros((1, 0, 4)), tf.stack([5, number]), min_object_covered=0.0,
                area_range=augmentation.crop_area, aspect_ratio_range=augmentation.crop_ratio,
                use_image_if_no_bounding_boxes=True,
            )  # fmt: skip
            return tf.concat([begin[:2], size[:2]], 0)

        theirs = np.array(list(tf.data.Dataset.range(3000).map(box).as_numpy_iterator()))
        assert (ours[:, :2] >= 0).all()
        assert (ours[:, :2] + ours[:, 2:] <= (height, width)).all()
        for column in range(4):
            assert scipy.stats.ks_2samp(ours[:, column], theirs[:, column], method="asymp").pvalue > 1e-3, (
                height,
                width,
                column,
            )


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_box_in_memory_is_resized_as_by_tensorflow(interpolation):
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    preprocessing = Preprocessing((16, 20), interpolation=interpolation)
    for top, left, height, width in ((0, 0, 40, 50), (7, 3, 20, 9), (30, 2, 8, 48)):
        ours = crop.resized_box_jax(image, np.array([top, left, height, width]), preprocessing)
        part = image[top : top + height, left : left + width]
        theirs = tf.saturate_cast(tf.round(tf.image.resize(part, (16, 20), method=interpolation)), tf.uint8)
        assert np.abs(np.asarray(ours, int) - theirs.numpy()).max() <= 1


def test_a_shift_is_that_of_the_graph():
    image = np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)
    padded = tf.pad(image, ((2, 2), (2, 2), (0, 0)))
    np.testing.assert_array_equal(crop.shifted(image, 4, 1, 2), padded[4:10, 1:8])
    shifts = {crop.padded_crop_jax(image, 1, jax.random.key(number)).tobytes() for number in range(100)}
    assert len(shifts) == 9


@pytest.mark.parametrize("size", [1, 2, 7, 360])
def test_every_epoch_is_a_permutation(size):
    orders = [np.asarray(device.shuffled(np.arange(size), size, jax.random.key(seed))) for seed in range(20)]
    for order in orders:
        assert sorted(order) == list(range(size))
    if size == 360:
        assert len({order.tobytes() for order in orders}) == 20
        # Where an example goes is uniform, and neighbours part.
        first = [np.asarray(device.shuffled(np.arange(8), 360, jax.random.key(seed))) for seed in range(300)]
        assert scipy.stats.kstest(np.ravel(first) / 360, "uniform").pvalue > 1e-3
        assert np.mean([np.abs(np.diff(row)) == 1 for row in first]) < 0.02


def stream(name, split, augmentation, *, in_memory, size=(8, 8), channels=1, batch_size=32, corrupt=None, seed=3):
    source = open_source(DatasetSpec(str(name), split), in_numpy=True)
    preprocessing = Preprocessing(size, channels=channels, resize="direct")
    corrupt = corrupt or CorruptImages()
    loaded = device.load_into_memory(source, preprocessing, augmentation, corrupt) if in_memory else None
    return device.DeviceStream(source, preprocessing, augmentation, batch_size, seed, corrupt, loaded)


compiled = {}


def take(stream, start, count):
    finish = compiled.setdefault(id(stream), jax.jit(stream.finish))
    batches = itertools.islice(stream.batches(start), count)
    return [tuple(map(np.asarray, finish(batch, stream.in_memory))) for (batch,) in batches]


def same(found, expected):
    for one, other in zip(found, expected, strict=True):
        for ours, theirs in zip(one, other, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_a_stream_starts_anywhere_in_memory_or_not():
    """The third epoch begins within the tenth batch."""
    resident, read = (stream("digits", "train[:150]", EVERYTHING, in_memory=way) for way in (True, False))
    whole = take(resident, 0, 12)
    same(take(resident, 9, 3), whole[9:])
    same(take(read, 0, 12), whole)
    same(take(read, 9, 3), whole[9:])


def test_every_epoch_takes_each_example_once():
    plain = Augmentation(crop="none", flip=False)
    given = stream("digits", "test[:96]", plain, in_memory=True)
    epochs = [np.concatenate([images for images, _ in take(given, 3 * epoch, 3)]) for epoch in range(2)]
    source = given.in_memory["image"]
    expected = sorted(((image / 255 - 0.5) / 0.5).round(4).tolist() for image in source.astype(float))
    for epoch in epochs:
        assert sorted(image.astype(float).round(4).tolist() for image in epoch) == expected
    assert (epochs[0] != epochs[1]).any()


def test_crops_of_a_folder_of_mixed_sizes_are_read_batch_by_batch(image_folder):
    """Each image is flat, so that its crop is its brightness."""
    boxes = Augmentation()
    assert (
        device.load_into_memory(
            open_source(DatasetSpec(str(image_folder)), in_numpy=True), Preprocessing((8, 8)), boxes, CorruptImages()
        )
        is None
    )
    given = stream(image_folder, "train", boxes, in_memory=False, channels=3, batch_size=4)
    images = np.concatenate([images for images, _ in take(given, 0, 3)])
    brightness = np.sort((images.mean(axis=(1, 2, 3)) / 2 + 0.5) * 255)
    np.testing.assert_allclose(brightness, 15.0 * np.arange(12), atol=2)
    whole = device.load_into_memory(given.source, given.preprocessing, Augmentation(crop="none"), CorruptImages())
    assert whole["image"].shape == (12, 8, 8, 3)


def test_unreadable_images_are_left_out_or_replaced(image_folder):
    (image_folder / "train" / "bee" / "03.jpg").write_bytes(b"no image")
    for in_memory, augmentation in ((True, Augmentation(crop="none")), (False, Augmentation())):
        corrupt = CorruptImages(1)
        options = {"channels": 3, "batch_size": 4, "corrupt": corrupt}
        given = stream(image_folder, "train", augmentation, in_memory=in_memory, **options)
        assert all(np.isfinite(images).all() for images, _ in take(given, 0, 6))
        assert corrupt.count == 1
    for path in (image_folder / "train").rglob("*.jpg"):
        path.write_bytes(b"no image")
    options = {"channels": 3, "batch_size": 4, "corrupt": CorruptImages(12)}
    with pytest.raises(CorruptImagesError, match="None of the 4 images of a batch could"):
        take(stream(image_folder, "train", Augmentation(), in_memory=False, **options), 0, 1)
    with pytest.raises(ValueError, match=r"No image of .*, split train, can be read"):
        stream(image_folder, "train", Augmentation(crop="none"), in_memory=True, **options)


def test_a_dataset_beyond_the_memory_of_the_device_stays_on_the_host(monkeypatch):
    source, preprocessing = open_source(DatasetSpec("digits"), in_numpy=True), Preprocessing((8, 8), channels=1)
    monkeypatch.setattr(device, "MEMORY_LIMIT", 1437 * 64 - 1)
    for augmentation in (Augmentation(), EVERYTHING):
        assert device.load_into_memory(source, preprocessing, augmentation, CorruptImages()) is None


def test_a_tfds_dataset_goes_to_the_device_too():
    spec, preprocessing = DatasetSpec("digits", "test"), Preprocessing((8, 8), channels=1, resize="direct")
    ours, theirs = (
        device.load_into_memory(open_source(spec, in_numpy=in_numpy), preprocessing, EVERYTHING, CorruptImages())
        for in_numpy in (True, False)
    )
    for name, values in ours.items():
        np.testing.assert_array_equal(values, theirs[name])


def test_images_are_scaled_as_in_evaluation():
    given = stream("digits", "test", Augmentation(crop="none", flip=False), in_memory=True)
    ((images, _),) = take(given, 0, 1)
    (batch,) = next(given.batches(0))
    index = np.asarray(device.shuffled(batch["within"], 360, given._key(device.ORDER, 0)))
    expected = [pixels.normalize(given.in_memory["image"][number], given.preprocessing) for number in index]
    np.testing.assert_allclose(images, np.stack(expected), atol=1e-6)
