"""What must hold for images, splits and streams of any size."""

import io

import numpy as np
import PIL.Image
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_mixer import data

some = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
sides = st.integers(1, 90)
small = st.integers(1, 24)
PLAIN = data.Augmentation(crop="none", flip=False)
DIGITS = data.Preprocessing(image_size=8, channels=1, resize="direct")


def png(pixels):
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def resized_by_pillow(pixels, size, method):
    """Each channel as floats, because Pillow rounds bytes after each of its two passes."""
    channels = [PIL.Image.fromarray(pixels[..., number]).convert("F") for number in range(pixels.shape[2])]
    resized = [np.asarray(channel.resize(size[::-1], method)) for channel in channels]
    return np.stack(resized, axis=-1).clip(0, 255)


@some
@given(sides, sides, small, small, st.sampled_from(["bilinear", "bicubic", "lanczos3"]), st.integers(0, 999))
def test_stretching_any_image_is_what_pillow_does(height, width, rows, columns, interpolation, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    ours = data.Preprocessing((rows, columns), resize="direct", interpolation=interpolation)(png(pixels)).numpy()
    method = {"bilinear": "BILINEAR", "bicubic": "BICUBIC", "lanczos3": "LANCZOS"}[interpolation]
    expected = resized_by_pillow(pixels, (rows, columns), PIL.Image.Resampling[method])
    np.testing.assert_allclose(127.5 * (ours + 1), expected, atol=0.05)


@some
@given(sides, sides, small, small, st.floats(0.3, 1.0), st.integers(0, 999))
def test_the_crop_of_any_photograph_is_the_centre_of_what_pillow_resizes(height, width, rows, columns, share, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    # The formula of `Preprocessing`, in float32 as it rounds there.
    scales = np.float32([rows, columns]) * np.float32(1 / share) / np.float32([height, width])
    size = np.maximum(np.round(np.float32([height, width]) * scales.max()), [rows, columns]).astype(int)
    if max(size / [rows, columns]) > 3:
        return  # only the middle of a long image is resized; another test compares that
    ours = data.Preprocessing((rows, columns), crop_share=share)(png(pixels)).numpy()
    resized = resized_by_pillow(pixels, size, PIL.Image.Resampling.BILINEAR)
    top, left = (size - [rows, columns]) // 2
    expected = resized[top : top + rows, left : left + columns]
    np.testing.assert_allclose(127.5 * (ours + 1), expected, atol=1)


@settings(some, max_examples=6)
@given(st.integers(0, 100), st.integers(0, 100))
def test_slices_of_a_split_are_disjoint_and_complete(data_dir, first, second):
    first, second = sorted((first, second))
    parts = [(0, first), (first, second), (second, 100)]
    labels = [
        data.load("digits", split=f"train[{start}%:{stop}%]", data_dir=data_dir).labels
        for start, stop in parts
        if start < stop
    ]
    whole = data.load("digits", split="train", data_dir=data_dir).labels
    np.testing.assert_array_equal(np.concatenate(labels), whole)


@settings(some, max_examples=4)
@given(st.integers(1, 60), st.integers(0, 40), st.integers(1, 4), st.integers(0, 99))
def test_a_stream_that_goes_on_is_the_stream_from_the_start(data_dir, batch_size, start, shards, seed):
    source = data.load("digits", split="test", data_dir=data_dir)
    batch_size *= shards

    def stream(begin, count, **options):
        batches = data.training_batches(source, DIGITS, PLAIN, batch_size, seed=seed, start_step=begin, **options)
        return [images for images, _ in batches.take(count).as_numpy_iterator()]

    expected = stream(0, start + 2)[start:]
    np.testing.assert_array_equal(stream(start, 2), expected)
    parts = [stream(start, 2, num_shards=shards, shard_index=index) for index in range(shards)]
    together = {image.tobytes() for part in parts for batch in part for image in batch}
    assert together == {image.tobytes() for batch in expected for image in batch}
