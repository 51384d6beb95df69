"""Images and sources without TensorFlow, against TensorFlow and TensorFlow Datasets."""

import hashlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_mixer.data import CorruptImages, CorruptImagesError, Preprocessing, arrays, evaluation_batches, pixels
from keras_mixer.data.sources import open_source
from keras_mixer.data.sources.splits import parts
from keras_mixer.dataset import DatasetSpec
from keras_mixer.preprocessing import INTERPOLATIONS, RESIZE_MODES


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_images_are_fitted_as_the_graph_fits_them(interpolation):
    random = np.random.default_rng(0)
    for resize in RESIZE_MODES:
        for shape, size in (((45, 60), (32, 32)), ((7, 300), (40, 24)), ((300, 211), (64, 64)), ((32, 32), (32, 32))):
            image = random.integers(0, 256, (*shape, 3), np.uint8)
            preprocessing = Preprocessing(size, resize=resize, interpolation=interpolation)
            found, expected = arrays.fit(image, preprocessing), pixels.fit(tf.constant(image), preprocessing)
            # "area" is no antialiased kernel; where it enlarges, TensorFlow adds up slivers in single precision.
            np.testing.assert_allclose(found, expected, rtol=0, atol=0.03 if interpolation == "area" else 0.01)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_box_is_resized_as_tensorflow_resizes_it(interpolation):
    """Without antialiasing, as in a crop of training."""
    image = np.random.default_rng(1).integers(0, 256, (50, 70, 3), np.uint8)
    for top, left, height, width in ((0, 0, 50, 70), (3, 9, 40, 11), (20, 1, 5, 60)):
        part = image[top : top + height, left : left + width]
        found = arrays.resized_box(image, ((top, height), (left, width)), (24, 32), interpolation, antialias=False)
        expected = tf.cast(tf.image.resize(part, (24, 32), method=interpolation), tf.float32)
        # TensorFlow looks the cubic kernel up in a table of 1,024 values; the result is rounded to whole numbers.
        np.testing.assert_allclose(found, expected, rtol=0, atol=0.2 if interpolation == "bicubic" else 0.01)


def test_the_digits_are_those_of_tfds_in_the_same_order():
    for split in ("train", "test", "train[10%:20%]"):
        spec = DatasetSpec("digits", split)
        ours, theirs = open_source(spec, in_numpy=True), open_source(spec, in_numpy=False)
        assert (ours.class_names, ours.image_shape) == (theirs.class_names, theirs.image_shape)
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        stored = [tf.io.decode_png(example["image"]).numpy() for example in theirs.examples()]
        np.testing.assert_array_equal(ours.images[ours.numbers], stored)
    assert hashlib.sha256(ours.read(3)).digest() != hashlib.sha256(ours.read(4)).digest()


@pytest.mark.parametrize("name", ["digits", "folder"])
def test_evaluation_batches_are_those_of_the_graph(name, image_folder):
    name = str(image_folder) if name == "folder" else name
    channels = 1 if name == "digits" else 3
    preprocessing = Preprocessing((12, 12), channels=channels, mean=0.4, std=0.2)
    batches = [
        list(evaluation_batches(open_source(DatasetSpec(name, "test"), in_numpy=in_numpy), preprocessing, 3, **options))
        for in_numpy in (True, False)
        for options in ({}, {"one_hot": True, "pad": True})
    ]
    for ours, theirs in (batches[0::2], batches[1::2]):
        for our, their in zip(ours, theirs, strict=True):
            for mine, other in zip(our, their, strict=True):
                np.testing.assert_allclose(mine, other, rtol=0, atol=0.01 / 255 / 0.2)
                assert mine.dtype == other.numpy().dtype


def test_unreadable_images_are_counted_without_tensorflow(image_folder):
    (image_folder / "test" / "bee" / "13.jpg").write_bytes(b"not an image")
    (image_folder / "test" / "bee" / "15.jpg").unlink()
    source = open_source(DatasetSpec(str(image_folder), "test"), in_numpy=True)
    (image_folder / "test" / "ant" / "12.jpg").unlink()  # after the folder was read
    corrupt = CorruptImages(2)
    weights = [weight.tolist() for _, _, weight in evaluation_batches(source, Preprocessing(), 2, corrupt=corrupt)]
    assert weights == [[0, 0], [1]]
    assert corrupt.count == 2
    with pytest.raises(CorruptImagesError, match="2 images could not be read, and 1 may be"):
        list(evaluation_batches(source, Preprocessing(), 2, corrupt=CorruptImages(1)))


boundaries = st.one_of(st.just(""), st.integers(-60, 60).map(str))
percentages = st.one_of(st.just(""), st.integers(-110, 110).map("{}%".format), st.just("33.5%"))
slices = st.one_of(
    st.just(""), st.tuples(boundaries, boundaries).map(":".join), st.tuples(percentages, percentages).map(":".join)
)


@given(st.lists(st.tuples(st.sampled_from(["train", "val", "none"]), slices), min_size=1, max_size=3))
@settings(max_examples=200, deadline=None)
def test_split_expressions_are_read_as_tfds_reads_them(expressions):
    text = "+".join(name + (f"[{part}]" if part else "") for name, part in expressions)
    sizes = {"train": 57, "val": 10}
    infos = [tfds.core.SplitInfo(name=name, shard_lengths=[size], num_bytes=0) for name, size in sizes.items()]
    try:
        instructions = tfds.core.ReadInstruction.from_spec(text).to_absolute(tfds.core.SplitDict(infos))
    except (KeyError, ValueError, AssertionError):
        expected = None
    else:
        expected = [
            list(range(sizes[part.splitname])[part.from_ : part.to]) for part in instructions if part.splitname in sizes
        ]
    try:
        found = [list(range(sizes[name])[part]) for name, part in parts(text, sizes)]
    except (KeyError, ValueError):
        found = None
    # `[:]` alone is a whole split here, and an error there.
    assert found == expected or (expected is None and "[:]" in text)
