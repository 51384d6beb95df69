"""Predictions of many images against those of one at a time."""

import io
import struct

import digit_models
import image_headers
import numpy as np
import photographs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from PIL import Image

from keras_mixer.evaluation import Predictor, keras_predictor
from keras_mixer.prediction import classify, find_images

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
            assert f"{prediction.path} cannot be read: it is not an image of a known format" in prediction.error
            assert prediction.classes == ()
            continue
        expected = one_by_one(predictor, prediction.path, top=3)
        assert prediction.error is None
        assert list(prediction.labels) == [name for name, _ in expected] == [str(index) for index in prediction.classes]
        assert prediction.scores == pytest.approx([score for _, score in expected], rel=1e-5)


@pytest.mark.parametrize("numbers", [{"top": 0}, {"batch_size": 0}, {"batch_size": 2.0}], ids=repr)
def test_numbers_that_are_not_positive_integers(predictor, images, numbers):
    with pytest.raises(ValueError, match=f"`{next(iter(numbers))}` must be a positive integer"):
        next(classify(predictor, CARD, find_images([str(images)]), **numbers))


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
    jxl = b"\xff\x0a" + bytes(20)
    bad = {
        "cut.jpg": ((images / "a.png").read_bytes()[:60], "it is damaged: "),
        "dds.jpg": (unknown, "it is not an image of a known format: its first bytes are b'DDS |"),
        "empty.jpg": (b"", "it is not an image of a known format: it has no bytes."),
        "xl.jpg": (jxl, "it is a JPEG XL file, which is not read: convert it to JPEG or PNG."),
    }
    for name, (content, _) in bad.items():
        (images / name).write_bytes(content)
    found = {prediction.path: prediction for prediction in classify(predictor, CARD, find_images([str(images)]))}
    assert len(found) == 9
    for name, (_, reason) in bad.items():
        path = str(images / name)
        assert found[path].error.startswith(f"{path} cannot be read: {reason}")
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
    (tmp_path / "a.png").write_bytes(image_headers.png_header(16_384, 16_385))  # Pillow's own `open` refuses it
    (tmp_path / "b.jpg").write_bytes(image_headers.jpeg_header(30_000, 30_000))
    (tmp_path / "c.gif").write_bytes(image_headers.gif_header(8, 8, canvas=(65_535, 65_535)))
    (tmp_path / "d.tiff").write_bytes(photographs.encoded(photographs.photograph(), "TIFF"))
    shards = find_images([str(tmp_path)])
    sizes = "16,384 x 16,385", "30,000 x 30,000", "65,535 x 65,535"
    *large, sound = classify(predictor, CARD, shards)
    for prediction, size in zip(large, sizes, strict=True):
        assert prediction.error == (
            f"{prediction.path} cannot be read: it is too large: {size} pixels, more than 268,435,456."
        )
    assert sound.error is None
    *_, sound = classify(predictor, CARD, shards, max_pixels=3071)
    assert sound.error.endswith("it is too large: 64 x 48 pixels, more than 3,071.")


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
