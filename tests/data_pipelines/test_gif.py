import io
import struct

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from keras_mixer.data import Preprocessing, pixels
from keras_mixer.data.pixels import MAX_BLOCKS, first_frame

COLOUR, GREY = Preprocessing(channels=3), Preprocessing(channels=1)


@pytest.fixture
def frames(photograph):
    """Three pictures of one size and few colours, as Pillow palettes."""
    return [PIL.Image.fromarray(np.roll(photograph, 7 * number, axis=1)).quantize(32) for number in range(3)]


def gif(frames, **options):
    content = io.BytesIO()
    frames[0].save(content, "GIF", save_all=len(frames) > 1, append_images=frames[1:], **options)
    return content.getvalue()


def at_the_place(content, left, top):
    """The same file with its first frame elsewhere on the canvas."""
    start = int(first_frame(content).start)
    return content[: start + 1] + struct.pack("<HH", left, top) + content[start + 5 :]


# Comments are blocks before the frame; of 600 bytes, three of them.
@pytest.mark.parametrize("options", [{}, {"comment": b"c" * 600, "loop": 0}, {"interlace": 1}])
@pytest.mark.parametrize("count", [1, 3])
def test_the_first_frame_is_what_the_same_picture_as_png_is(frames, count, options, encoded):
    content, picture = gif(frames[:count], **options), np.asarray(frames[0].convert("RGB"))
    np.testing.assert_array_equal(pixels.decode(content, 3), picture)
    np.testing.assert_array_equal(pixels.decode(content, 1), pixels.decode(encoded(picture), 1))
    np.testing.assert_allclose(pixels.decode(content, 1)[..., 0], np.asarray(pillow_grey(picture)), atol=1)


def pillow_grey(picture):
    return PIL.Image.fromarray(picture).convert("L")


def test_data_after_the_end_and_the_place_on_the_canvas_change_nothing(frames):
    content, picture = gif(frames[:1]), np.asarray(frames[0].convert("RGB"))
    np.testing.assert_array_equal(pixels.decode(at_the_place(content, 10, 20) + b"more", 3), picture)


def test_the_first_frame_is_measured_without_what_follows(frames):
    alone, among_others = first_frame(gif(frames[:1])), first_frame(gif(frames))
    assert (int(alone.width), int(alone.height)) == (60, 45)
    assert int(alone.end) == len(gif(frames[:1])) - 1  # all but the trailer
    assert int(among_others.end) < len(gif(frames)) / 2


def test_works_inside_a_pipeline(frames):
    images = tf.data.Dataset.from_tensor_slices([gif(frames), gif(frames[1:])]).map(GREY).batch(2)
    (batch,) = images
    np.testing.assert_array_equal(batch, [GREY(gif(frames)), GREY(gif(frames[1:]))])


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:4],
        lambda content: content[:100],  # in the colours
        lambda content: content[:-20],  # in the pixels
        lambda content: content[:13] + b";",  # no frame
        lambda content: content[:13] + b"!\xfe" + b"\1c" * MAX_BLOCKS + b"\0" + content[13:],
    ],
    ids=["header", "colours", "pixels", "empty", "blocks"],
)
def test_a_damaged_file_is_refused(frames, damage):
    with pytest.raises(tf.errors.InvalidArgumentError, match="cut short or holds no frame"):
        pixels.decode(damage(gif(frames[:1])), 3)
