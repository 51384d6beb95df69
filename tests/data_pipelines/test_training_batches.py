import gc
import itertools
import weakref

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_mixer import data
from keras_mixer.data import pixels, stream
from keras_mixer.data.storage import random_access

DIGITS = data.Preprocessing(image_size=8, channels=1, resize="direct")
PLAIN = data.Augmentation(crop="none", flip=False)
EVERYTHING = data.Augmentation(crop="pad", crop_padding=1, randaugment_layers=1, mixup=0.3, cutmix=0.5)
SMALL = data.Preprocessing(image_size=16)


def opened(data_dir):
    return data.load("digits", split="test", data_dir=data_dir)  # 360 examples


@pytest.fixture(scope="module")
def digits(data_dir):
    """One source, whose images are then decoded once."""
    return opened(data_dir)


def take(count, source, preprocessing=DIGITS, augmentation=PLAIN, batch_size=32, seed=1, **options):
    batches = data.training_batches(source, preprocessing, augmentation, batch_size, seed=seed, **options)
    return list(batches.take(count).as_numpy_iterator())


def same(first, second):
    assert len(first) == len(second)
    for (images, labels), (other_images, other_labels) in zip(first, second, strict=True):
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(labels, other_labels)


def keys(batches):
    return [image.tobytes() for images, _ in batches for image in images]


def test_what_fits_in_memory_is_decoded_once_for_each_number_of_channels(data_dir, monkeypatch):
    digits, read = opened(data_dir), []
    examples = digits.examples
    monkeypatch.setattr(digits, "examples", lambda: read.append("once") or examples())
    first = take(2, digits)
    same(take(1, digits, start_step=1), first[1:])
    assert len(read) == 1
    colour = data.Preprocessing(image_size=8, channels=3, resize="direct")
    ((images, _),) = take(1, digits, colour)
    np.testing.assert_array_equal(images, np.repeat(first[0][0], 3, axis=-1))
    assert len(read) == 2


def test_what_is_in_memory_goes_with_its_source(data_dir):
    source = data.load("digits", split="test[:5]", data_dir=data_dir)
    random_access(source, DIGITS, data.CorruptImages())
    alive = weakref.ref(source)
    del source
    gc.collect()
    assert alive() is None


def test_static_shapes(digits):
    spec = data.training_batches(digits, DIGITS, EVERYTHING, 32, seed=0).element_spec
    assert [(part.shape, part.dtype) for part in spec] == [((32, 8, 8, 1), tf.float32), ((32, 10), tf.float32)]


def test_every_example_once_per_epoch_with_its_label(digits):
    batches = take(18, digits, batch_size=40)  # two epochs
    expected = {
        DIGITS(example["image"]).numpy().tobytes(): example["label"]
        for example in digits.examples().as_numpy_iterator()
    }
    first, second = keys(batches[:9]), keys(batches[9:])
    assert sorted(first) == sorted(second) == sorted(expected)
    assert first != second
    labels = np.concatenate([labels.argmax(axis=1) for _, labels in batches])
    assert [expected[key] for key in first + second] == list(labels)


def test_the_order_is_shuffled(digits):
    order = [example["label"] for example in digits.examples().as_numpy_iterator()]
    labels = np.concatenate([labels.argmax(axis=1) for _, labels in take(9, digits, batch_size=40)])
    assert 0.05 < np.mean(labels == order) < 0.2  # ten classes agree one time in ten by chance


@pytest.fixture(scope="module")
def whole(digits):
    """Batches of a stream with everything in it."""
    return take(26, digits, augmentation=EVERYTHING)


@pytest.mark.parametrize("start_step", [11, 23])  # 11 * 32 is just before the end of the first epoch
def test_starts_anywhere(digits, whole, start_step):
    same(take(26 - start_step, digits, augmentation=EVERYTHING, start_step=start_step), whole[start_step:])


def test_seeds_differ_and_global_seeds_do_not_matter(digits, whole):
    tf.random.set_seed(123)
    same(take(3, digits, augmentation=EVERYTHING), whole[:3])
    assert set(keys(whole[:3])).isdisjoint(keys(take(3, digits, augmentation=EVERYTHING, seed=2)))


def test_shards_are_the_parts_of_the_batch(digits, whole):
    shards = [take(13, digits, augmentation=EVERYTHING, num_shards=2, shard_index=index) for index in range(2)]
    joined = [tuple(np.concatenate(parts) for parts in zip(*step, strict=True)) for step in zip(*shards, strict=True)]
    same(joined, whole[:13])


def test_the_values_are_the_models(whole):
    images, labels = zip(*whole[:4], strict=True)
    assert np.min(images) == -1
    assert np.max(images) == 1
    np.testing.assert_allclose(np.sum(labels, axis=-1), 1, atol=1e-6)


@pytest.mark.parametrize("name", ["imagenet2012", "cifar10"])
def test_sources_that_are_read_in_order_or_kept(tmp_path, name):
    augmentation = data.Augmentation(randaugment_layers=1, randaugment_magnitude=15, mixup=0.5)
    with tfds.testing.mock_data(num_examples=20):
        source = data.load(name, data_dir=str(tmp_path))
        whole = take(8, source, SMALL, augmentation, 8)
        tf.random.set_seed(99)
        same(take(3, source, SMALL, augmentation, 8, start_step=5), whole[5:])  # 40 examples on, in the third epoch
        assert set(keys(whole)).isdisjoint(keys(take(1, source, SMALL, augmentation, 8, seed=7)))


def test_examples_in_order_are_the_same_from_any_start(data_dir):
    source = data.load(data.DatasetSpec("digits", "train[:7]", data_dir))

    def images(start, count):
        examples = stream.read_in_order(source, 3, start).take(count)
        return [example["image"] for example in examples.as_numpy_iterator()]

    whole = images(0, 25)
    assert set(whole[:7]) == set(whole[7:14]) == set(whole[14:21])
    assert whole[:7] != whole[7:14]
    for start in (3, 7, 17):
        assert images(start, 25 - start) == whole[start:]


def test_a_source_read_in_order_gives_every_example_once_per_epoch(tmp_path):
    with tfds.testing.mock_data(num_examples=20):
        source = data.load("imagenet2012", data_dir=str(tmp_path))
        batches = take(8, source, SMALL, PLAIN, 5)
        expected = sorted(
            np.round(pixels.fit(pixels.decode(example["image"]), SMALL)).astype(np.uint8).tobytes()
            for example in source.examples().as_numpy_iterator()
        )
    levels = [np.round((images + 1) * 127.5).astype(np.uint8) for images, _ in batches]
    epochs = [[image.tobytes() for images in part for image in images] for part in (levels[:4], levels[4:])]
    assert sorted(epochs[0]) == sorted(epochs[1]) == expected
    assert epochs[0] != epochs[1]


def test_shards_of_a_source_read_in_order_share_it(data_dir, monkeypatch):
    digits = opened(data_dir)
    monkeypatch.setattr("keras_mixer.data.storage.MEMORY_LIMIT", 0)
    shards = [take(9, digits, batch_size=40, num_shards=2, shard_index=index) for index in range(2)]  # one epoch
    expected = sorted(DIGITS(example["image"]).numpy().tobytes() for example in digits.examples().as_numpy_iterator())
    assert sorted(keys(shards[0]) + keys(shards[1])) == expected
    same(take(2, digits, batch_size=40, num_shards=2, shard_index=1, start_step=7), shards[1][7:])


@pytest.fixture
def files_in_turn(digits_in_files, monkeypatch):
    """The digits in forty files, read as a dataset that fits neither in memory nor in the shuffle buffer."""
    monkeypatch.setattr("keras_mixer.data.storage.MEMORY_LIMIT", 0)
    monkeypatch.setattr("keras_mixer.data.stream.SHUFFLE_BUFFER", 20)
    return data.load("digits", data_dir=digits_in_files)


def test_of_a_source_larger_than_the_buffer_each_epoch_reads_the_files_in_another_order(files_in_turn):
    whole = keys(take(6, files_in_turn, batch_size=479))  # two epochs
    first, second = whole[:1437], whole[1437:]
    assert sorted(first) == sorted(second)
    # From one order of the files, the buffer would leave each image within some dozens of its place.
    place = {key: number for number, key in enumerate(first)}
    moved = [abs(place[key] - number) for number, key in enumerate(second)]
    assert np.median(moved) > 200


def test_a_source_larger_than_the_buffer_starts_anywhere(files_in_turn):
    options = {"batch_size": 400, "num_shards": 2, "shard_index": 1}  # 718 of the examples: step 6 is in epoch 2
    whole = take(8, files_in_turn, **options)
    tf.random.set_seed(5)
    same(take(2, files_in_turn, start_step=6, **options), whole[6:])


def test_a_folder_of_several_sizes(image_folder):
    source = data.load(str(image_folder))
    whole = take(7, source, SMALL, data.Augmentation(), 4)
    same(take(3, source, SMALL, data.Augmentation(), 4, start_step=4), whole[4:])
    # Each image has one brightness: sixteen in steps of 15, so crop and flip cannot hide which it is.
    brightness = [round((float(image.mean()) + 1) * 127.5 / 15) for images, _ in whole[:3] for image in images]
    assert sorted(brightness) == list(range(12))
    labels = np.concatenate([labels.argmax(axis=1) for _, labels in whole[:3]])
    assert [number % 2 for number in brightness] == list(labels)


def test_batches_reach_keras(digits):
    import keras

    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    batches = data.training_batches(digits, DIGITS, PLAIN, 36, seed=0)
    history = model.fit(batches, steps_per_epoch=10, epochs=2, shuffle=False, verbose=0).history["loss"]
    assert history[1] < history[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 30, "num_shards": 4}, "4 shards cannot share a batch of 30"),
        ({"num_shards": 2, "shard_index": 2}, "`shard_index` must be an integer from 0 to 1, but got 2"),
        ({"num_shards": 1.0}, "`num_shards` must be a positive integer, but got 1.0"),
        ({"batch_size": 6, "num_shards": 2, "augmentation": EVERYTHING}, "mix pairs.*Take an even number"),
        ({"batch_size": 0}, "`batch_size` must be a positive integer, but got 0"),
        ({"batch_size": 2.0}, "`batch_size` must be a positive integer, but got 2.0"),
        ({"seed": -1}, "`seed` must be an integer from 0 to 2147483647, but got -1"),
        ({"seed": 1.5}, "`seed` must be an integer"),
        ({"start_step": -1}, "`start_step` must be an integer"),
        ({"start_step": "3"}, "`start_step` must be an integer .*, but got '3'"),
    ],
)
def test_bad_arguments(digits, options, message):
    with pytest.raises(ValueError, match=message):
        take(1, digits, **options)


def test_an_epoch_may_end_inside_a_batch(digits):
    batches = take(12, digits, batch_size=100)  # 360 examples: epochs end within batches 3 and 7
    epochs = [keys(batches)[start : start + 360] for start in (0, 360, 720)]
    assert all(len(set(epoch)) == 360 for epoch in epochs)
    assert len({tuple(epoch) for epoch in itertools.chain(epochs)}) == 3
