"""Predictions of many images against those of one at a time."""

import digit_models
import image_headers
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from keras_mixer.evaluation import Predictor, keras_predictor, predict_file
from keras_mixer.prediction import classify, find_images

CARD = digit_models.card(None)


@pytest.fixture(scope="module")
def predictor():
    return keras_predictor(digit_models.untrained())


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
            assert prediction.error == f"{prediction.path} is not a readable JPEG or PNG image (12 bytes)."
            assert prediction.classes == ()
            continue
        expected = predict_file(predictor, CARD, prediction.path, top=3)
        assert prediction.error is None
        assert list(prediction.labels) == [name for name, _ in expected] == [str(index) for index in prediction.classes]
        assert prediction.scores == pytest.approx([score for _, score in expected], rel=1e-5)


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
    for name, header in {"a.png": image_headers.png_header, "b.jpg": image_headers.jpeg_header}.items():
        (tmp_path / name).write_bytes(header(30_000, 30_000))
    for prediction in classify(predictor, CARD, find_images([str(tmp_path)])):
        assert f"{prediction.path} is too large to be decoded" in prediction.error


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
    with pytest.raises(OSError):  # noqa: PT011 - Arrow's words
        list(classify(predictor, CARD, shards))
