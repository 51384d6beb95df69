import io

import digit_models
import numpy as np
import pytest
from PIL import Image

from keras_mixer.evaluation import keras_predictor, predict_file


@pytest.fixture
def predictor(model):
    return keras_predictor(model)


def test_predictions_are_the_models_best_first(predictor, model, folder, tmp_path):
    pixels = np.random.default_rng(3).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "digit.png")
    found = predict_file(predictor, digit_models.card(folder), tmp_path / "digit.png", top=3)
    scores = model.predict_on_batch(pixels[None, :, :, None].astype(np.float32) / 127.5 - 1.0)[0]
    order = sorted(range(10), key=lambda index: -scores[index])[:3]
    assert [name for name, _ in found] == [str(index) for index in order]
    assert [score for _, score in found] == pytest.approx([scores[index] for index in order], rel=1e-5)


@pytest.mark.parametrize(("mode", "suffix"), [("RGB", "jpg"), ("RGBA", "png"), ("P", "png"), ("L", "jpg")])
def test_any_size_and_colour_is_read(predictor, folder, tmp_path, mode, suffix):
    path = tmp_path / f"image.{suffix}"
    Image.new("RGB", (30, 17), (200, 10, 90)).convert(mode).save(path)
    assert len(predict_file(predictor, digit_models.card(folder), path)) == 5


def test_what_is_no_image_is_one_clear_error(predictor, folder, tmp_path):
    buffer = io.BytesIO()
    Image.new("L", (20, 20)).save(buffer, "PNG")
    for name, content in {"text.png": b"not an image", "empty.png": b"", "cut.png": buffer.getvalue()[:40]}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} is not a readable JPEG or PNG image \({len(content)} bytes\)"):
            predict_file(predictor, digit_models.card(folder), tmp_path / name)
