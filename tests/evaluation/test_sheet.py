import numpy as np
import pytest
from PIL import Image

from keras_mixer.evaluation import Predictor, save_prediction_sheet

IMAGES = np.random.default_rng(0).uniform(-1, 1, (60, 8, 8, 3)).astype(np.float32)
LABELS = np.arange(60) % 3


def sheet(path, right: bool):
    answers = LABELS if right else (LABELS + 1) % 3
    predictor = Predictor("fixed", lambda images: np.eye(3)[answers])
    return np.asarray(Image.open(save_prediction_sheet(predictor, [(IMAGES, LABELS)], "abc", path)).convert("RGB"))


def red_above_the_first_image(picture: np.ndarray) -> bool:
    title = picture[: picture.shape[0] // 40, : picture.shape[1] // 8].astype(int)
    return bool(np.any((title[..., 0] > 200) & (title[..., 1] < 80) & (title[..., 2] < 80)))


def test_wrong_predictions_are_marked_in_red(tmp_path):
    assert red_above_the_first_image(sheet(tmp_path / "wrong.png", right=False))
    assert not red_above_the_first_image(sheet(tmp_path / "right.png", right=True))


def test_reads_no_further_once_wrong_and_right_fill_the_sheet(tmp_path):
    half_right = Predictor("fixed", lambda images: np.eye(3)[np.where(np.arange(60) % 2, LABELS, (LABELS + 1) % 3)])

    def batches():
        yield IMAGES, LABELS
        raise AssertionError("30 wrong and 30 right predictions are there")

    assert save_prediction_sheet(half_right, batches(), "abc", tmp_path / "sheet.png").stat().st_size


def test_an_empty_split_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no images"):
        save_prediction_sheet(Predictor("fixed", lambda images: images), [], "abc", tmp_path / "sheet.png")
