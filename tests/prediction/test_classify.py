"""Predictions of many images against those of one at a time."""

import io
import struct

import digit_models
import image_headers
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from PIL import Image

from keras_mixer.artefacts import decoding
from keras_mixer.evaluation import Predictor, keras_predictor
from keras_mixer.prediction import classify, find_images
from keras_mixer.prediction.classify import MAX_PIXELS

CARD = digit_models.card(None)


@pytest.fixture(scope="module")
def predictor():
    return keras_predictor(digit_models.untrained())


def one_by_one(predictor, path, top) -> list[tuple[str, float]]:
    """Class names and scores of one image, best first, by the predictor and NumPy alone."""
    (scores,) = predictor.scores(CARD.preprocessing(tf.io.read_file(str(path))).numpy()[None])
    return [(CARD.class_names[index], scores[index]) for index in np.argsort(-scores, kind="stable")[:top]]


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_as_one_at_a_time(predictor, images, batch_size):
    sizes = []
    counting = Predictor("keras", lambda batch: sizes.append(len(batch)) or predictor.scores(batch))
    found = list(classify(counting, CARD, find_images([str(images)]), top=3, batch_size=batch_size))
    assert [prediction.path.rpartition("/")[2] for prediction in found] == [
        "a.png",
        "b.jpg",
        "bad.png",
        "c.JPEG",
        "d.png",
    ]
    assert set(sizes) == {min(batch_size, 5)}  # always one size, which is compiled once
    for prediction in found:
        if prediction.path.endswith("bad.png"):
            assert prediction.error == f"{prediction.path} is not a readable JPEG, PNG or GIF image (12 bytes)."
            assert prediction.classes == ()
            continue
        expected = one_by_one(predictor, prediction.path, top=3)
        assert prediction.error is None
        assert list(prediction.labels) == [name for name, _ in expected] == [str(index) for index in prediction.classes]
        assert prediction.scores == pytest.approx([score for _, score in expected], rel=1e-5)


@pytest.mark.parametrize(("mode", "suffix"), [("RGB", "jpg"), ("RGBA", "png"), ("P", "png"), ("L", "jpg")])
def test_any_size_and_colour_is_read(predictor, tmp_path, mode, suffix):
    path = tmp_path / f"image.{suffix}"
    Image.new("RGB", (30, 17), (200, 10, 90)).convert(mode).save(path)
    (prediction,) = classify(predictor, CARD, find_images([str(path)]))
    assert (prediction.error, len(prediction.scores)) == (None, 5)


def test_what_is_no_image_is_an_error_of_its_own(predictor, images):
    unknown = b"DDS " + struct.pack("<31I", 124, 0x1007, 8, 8, *[0] * 14, 32, 0x80000000, *[0] * 11)
    with pytest.raises(NotImplementedError):  # what Pillow thinks of it
        Image.open(io.BytesIO(unknown))
    bad = {"cut.jpg": (images / "a.png").read_bytes()[:40], "dds.jpg": unknown, "empty.jpg": b""}
    for name, content in bad.items():
        (images / name).write_bytes(content)
    found = {prediction.path: prediction for prediction in classify(predictor, CARD, find_images([str(images)]))}
    assert len(found) == 8
    for name, content in bad.items():
        path = str(images / name)
        assert found[path].error == f"{path} is not a readable JPEG, PNG or GIF image ({len(content)} bytes)."
    assert found[str(images / "a.png")].error is None


def test_a_file_that_is_gone_and_an_empty_row_have_errors(predictor, images, tmp_path):
    content = (images / "a.png").read_bytes()
    pq.write_table(pa.table({"image": [None, content], "id": ["none", "row"]}), tmp_path / "rows.parquet")
    shards = find_images([str(images / "a.png"), str(tmp_path / "rows.parquet")])
    (images / "a.png").unlink()
    file, none, row = classify(predictor, CARD, shards, batch_size=2)
    assert "No such file" in file.error
    assert none.error == "The row holds no image."
    assert (row.path, row.error, len(row.classes)) == ("row", None, 5)


def test_a_header_that_promises_too_many_pixels_is_an_error(predictor, tmp_path):
    assert MAX_PIXELS == decoding.MAX_PIXELS == 8192**2
    sizes = (8193, 10_000, 30_000)  # Pillow's own `open` warns of the second and refuses the third
    for size in sizes:
        (tmp_path / f"{size}.png").write_bytes(image_headers.png_header(8192, size))
        (tmp_path / f"{size}.jpg").write_bytes(image_headers.jpeg_header(8192, size))
        (tmp_path / f"{size}.gif").write_bytes(image_headers.gif_header(8192, size))
    predictions = list(classify(predictor, CARD, find_images([str(tmp_path)])))
    assert {prediction.path: prediction.error for prediction in predictions} == {
        (path := str(tmp_path / f"{size}.{suffix}")): (
            f"{path} is too large to be decoded: 8,192 x {size:,} pixels, more than 67,108,864."
        )
        for size in sizes
        for suffix in ("png", "jpg", "gif")
    }


def test_the_canvas_of_a_gif_is_no_size_of_its_image(predictor, tmp_path):
    content = io.BytesIO()
    Image.effect_noise((60, 45), 50).save(content, "GIF")
    small, large = content.getvalue(), bytearray(content.getvalue())
    large[6:10] = b"\xff\xff\xff\xff"  # 65,535 x 65,535
    found = []
    for name, image in {"large.gif": large, "small.gif": small}.items():
        (tmp_path / name).write_bytes(image)
        # One call each: on some processors the rows of one batch differ in their last bits.
        found += classify(predictor, CARD, find_images([str(tmp_path / name)]))
    assert [prediction.error for prediction in found] == [None, None]
    assert found[0].scores == found[1].scores


def test_a_parquet_file_that_lost_rows_is_no_longer_the_one_that_was_listed(predictor, images, tmp_path):
    content, path = (images / "a.png").read_bytes(), tmp_path / "rows.parquet"
    pq.write_table(pa.table({"image": [content] * 3}), path)
    shards = find_images([str(path), str(images / "b.jpg")])
    pq.write_table(pa.table({"image": [content] * 2}), path)
    with pytest.raises(ValueError, match=r"rows\.parquet has fewer rows"):
        list(classify(predictor, CARD, shards))


def test_scores_that_are_not_finite_are_an_error(images):
    broken = Predictor("keras", lambda batch: np.full((len(batch), 10), np.nan, np.float32))
    (prediction,) = classify(broken, CARD, find_images([str(images / "a.png")]))
    assert "not finite" in prediction.error


def test_a_parquet_file_damaged_after_it_was_listed_stops_the_run_by_its_own_error(predictor, tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"image": [b"x" * 1000] * 50}), path, compression="none", use_dictionary=False)
    shards = find_images([str(path)])
    content = path.read_bytes()
    path.write_bytes(content[:20] + b"\xff" * 60 + content[80:])
    with pytest.raises(OSError, match=r"rows\.parquet cannot be read as a parquet file"):
        list(classify(predictor, CARD, shards))
