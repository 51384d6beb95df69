import pathlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_mixer import data

SMALL = data.Preprocessing(image_size=16)


@pytest.fixture
def damaged(image_folder):
    """The folder with two of its twelve training images destroyed: one cut short, one of another kind."""
    source = data.load(str(image_folder))
    cut, other = (pathlib.Path(source.paths[index]) for index in (1, 8))
    cut.write_bytes(cut.read_bytes()[:200])
    other.write_text("no image at all")
    return source, {str(cut), str(other)}


def test_evaluation_gives_them_no_weight_and_counts_them(damaged):
    source, paths = damaged
    corrupt = data.CorruptImages(limit=2)
    batches = list(data.evaluation_batches(source, SMALL, 5, corrupt=corrupt).as_numpy_iterator())
    weights = np.concatenate([weights for _, _, weights in batches])
    assert list(np.flatnonzero(weights == 0)) == [1, 8]
    assert corrupt.count == 2
    assert set(corrupt.found) == paths
    list(data.evaluation_batches(source, SMALL, 5, corrupt=corrupt))
    assert corrupt.count == 2  # each image once


def test_a_file_that_may_not_be_read_is_one_of_them(damaged, monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(pathlib.Path, "read_bytes", refused)
    corrupt = data.CorruptImages(limit=2)
    list(data.evaluation_batches(damaged[0], SMALL, 5, corrupt=corrupt))
    assert "About the first: Permission denied." in corrupt.left_out()


def test_training_puts_the_next_example_in_their_place(damaged):
    source, paths = damaged

    def stream(start_step=0):
        corrupt = data.CorruptImages(limit=2)
        batches = data.training_batches(
            source, SMALL, data.Augmentation(), 6, seed=3, start_step=start_step, corrupt=corrupt
        )
        return list(batches.take(8 - start_step).as_numpy_iterator()), corrupt

    whole, corrupt = stream()
    assert set(corrupt.found) == paths
    for images, labels in whole:
        # Brightness tells the image and with it the label; the destroyed ones are bee 1 and ant 5.
        brightness = np.round((images.mean(axis=(1, 2, 3)) + 1) * 127.5 / 15)
        np.testing.assert_array_equal(brightness % 2, labels.argmax(axis=1))
    again, _ = stream(start_step=5)
    for (images, labels), (other_images, other_labels) in zip(whole[5:], again, strict=True):
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(labels, other_labels)


def test_files_that_are_deleted_meanwhile_are_unreadable(image_folder):
    source = data.load(str(image_folder))
    corrupt = data.CorruptImages(limit=2)
    training = data.training_batches(source, SMALL, data.Augmentation(), 6, seed=3, corrupt=corrupt)
    evaluation = data.evaluation_batches(source, SMALL, 12, corrupt=corrupt)
    deleted = [source.paths[index] for index in (2, 7)]
    for path in deleted:
        pathlib.Path(path).unlink()
    list(training.take(2))  # an epoch
    assert sorted(corrupt.found) == sorted(deleted)
    ((_, _, weights),) = evaluation.as_numpy_iterator()
    assert list(np.flatnonzero(weights == 0)) == [2, 7]


def test_an_image_of_a_part_of_a_dataset_is_named_by_its_place_in_the_whole(damaged, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_mixer.data.storage.MEMORY_LIMIT", 0)
    folder, _ = damaged
    examples = [{"image": path, "label": number % 2} for number, path in enumerate(folder.paths)]
    tfds.dataset_builders.store_as_tfds_dataset(
        "ants_and_bees",
        version="1.0.0",
        features=tfds.features.FeaturesDict(
            {"image": tfds.features.Image(shape=(None, None, 3)), "label": tfds.features.ClassLabel(num_classes=2)}
        ),
        split_datasets={"train": list(enumerate(examples))},
        data_dir=str(tmp_path),
        disable_shuffling=True,
    )
    source = data.load("ants_and_bees", data_dir=str(tmp_path))
    corrupt = data.CorruptImages(limit=1)
    batches = data.training_batches(
        source, SMALL, data.Augmentation(), 12, seed=0, num_shards=2, shard_index=1, corrupt=corrupt
    )
    list(batches.take(1))
    assert corrupt.found == ["example 8 of ants_and_bees, split train"]


def test_one_more_than_the_limit_stops(damaged):
    source, paths = damaged
    for batches in (
        lambda corrupt: data.evaluation_batches(source, SMALL, 5, corrupt=corrupt),
        lambda corrupt: data.training_batches(source, SMALL, data.Augmentation(), 6, seed=3, corrupt=corrupt).take(8),
    ):
        corrupt = data.CorruptImages(limit=1)
        message = r"2 images could not be read, and 1 may be:"
        with pytest.raises(data.CorruptImagesError, match=message) as caught, corrupt.explained():
            list(batches(corrupt))
        assert all(path in str(caught.value) for path in paths)
        assert "\n" not in str(caught.value)


def test_a_batch_without_any_readable_image_stops_whatever_the_limit(image_folder):
    source = data.load(str(image_folder))
    for path in source.paths:
        pathlib.Path(path).write_bytes(b"no image")
    corrupt = data.CorruptImages(limit=100)
    message = r"^None of the 4 images of a batch could be read: .*\.jpg"
    with pytest.raises(data.CorruptImagesError, match=message), corrupt.explained():
        list(data.training_batches(source, SMALL, data.Augmentation(), 4, seed=0, corrupt=corrupt).take(1))


def test_none_is_allowed_without_a_counter(damaged):
    source, _ = damaged
    with pytest.raises(Exception, match="1 image could not be read, and 0 may be"):
        list(data.evaluation_batches(source, SMALL, 5))


def test_images_kept_in_memory_are_left_out(image_folder):
    for path in image_folder.glob("train/*/*.jpg"):
        if int(path.stem) % 3:
            path.unlink()  # the others are of one size: a folder of four images
    source = data.load(str(image_folder))
    pathlib.Path(source.paths[2]).write_bytes(b"\xff\xd8\xff")
    corrupt = data.CorruptImages(limit=1)
    batches = data.training_batches(source, SMALL, data.Augmentation(), 3, seed=0, corrupt=corrupt)
    assert corrupt.found == [source.paths[2]]
    for images, _ in batches.take(4).as_numpy_iterator():
        assert len({round(float(image.mean()), 3) for image in images}) == 3  # an epoch is the three others
    for file in source.paths:
        pathlib.Path(file).unlink()  # what is in memory stays, and is told to each counter
    again = data.CorruptImages(limit=1)
    second = data.training_batches(source, SMALL, data.Augmentation(), 3, seed=0, corrupt=again)
    assert again.found == corrupt.found
    for batch, other in zip(batches.take(2), second.take(2), strict=True):
        np.testing.assert_array_equal(batch[0], other[0])
    with pytest.raises(data.CorruptImagesError, match="0 may be"):
        data.training_batches(source, SMALL, data.Augmentation(), 3, seed=0)


def test_other_errors_are_not_explained_away():
    corrupt = data.CorruptImages(limit=1)
    with pytest.raises(tf.errors.InternalError, match="another"), corrupt.explained():
        raise tf.errors.InternalError(None, None, "another")


@pytest.mark.parametrize("arguments", [{"limit": -1}, {"limit": 1.5}, {"limit": "3"}, {"max_pixels": 0}], ids=repr)
def test_bad_limits(arguments):
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}` must be"):
        data.CorruptImages(**arguments)
