"""The preprocessing and the file table of docs/phone.md."""

import json
import pathlib
import re

import digit_models
import numpy as np
import PIL.Image
import pytest

from keras_mixer.data import Preprocessing
from keras_mixer.export import export_litert
from keras_mixer.preprocessing import INTERPOLATIONS

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "phone.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def snippet():
    """What the Python of the page defines."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict = {}
    exec(code, names)
    return names


@pytest.fixture
def photo(tmp_path):
    y, x = np.mgrid[0:300, 0:400]
    channels = [(x * y) % 256, 255 * ((x // 7 + y // 5) % 2), np.random.default_rng(0).integers(0, 256, x.shape)]
    PIL.Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.mark.parametrize("size", [(50, 50), (131, 97)])
def test_a_grey_model_sees_the_same_of_a_colour_jpeg(snippet, photo, tmp_path, size):
    PIL.Image.open(photo).save(tmp_path / "photo.jpg", quality=95)
    preprocessing = Preprocessing(image_size=size, channels=1)
    expected = preprocessing((tmp_path / "photo.jpg").read_bytes()).numpy()
    result = snippet["model_input"](tmp_path / "photo.jpg", json_of(preprocessing))
    np.testing.assert_allclose(127.5 * result[0], 127.5 * expected, atol=0.01)


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(),
        Preprocessing(image_size=(64, 48), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), crop_share=0.96),
        Preprocessing(image_size=100, resize="squash"),
        Preprocessing(image_size=(40, 60), resize="direct", mean=0.0, std=1.0),
        Preprocessing(image_size=(131, 97), interpolation="bicubic"),
        Preprocessing(image_size=400, interpolation="lanczos3"),
        Preprocessing(image_size=50, channels=1, interpolation="lanczos3"),
    ],
    ids=lambda preprocessing: f"{preprocessing.resize} {preprocessing.interpolation}",
)
def test_the_page_prepares_a_photo_as_the_package_does(snippet, photo, preprocessing):
    """To a hundredth of a level of 255, as the page says; grey is made of colours by whole levels."""
    expected = preprocessing(photo.read_bytes()).numpy()
    result = snippet["model_input"](photo, json_of(preprocessing))
    assert result.dtype == np.float32
    assert result.shape == (1, *expected.shape)
    level = 1 / (255 * np.broadcast_to(preprocessing.std, preprocessing.channels))
    assert (np.abs(result[0] - expected) <= (0.01 if preprocessing.channels == 3 else 1) * level).all()


def test_the_page_names_the_interpolations_that_it_leaves_out(snippet):
    left_out = set(INTERPOLATIONS) - snippet["FILTERS"].keys()
    assert len(left_out) == 3
    assert all(f'"{name}"' in PAGE for name in left_out)


def test_the_page_turns_photos_upright(snippet, photo, tmp_path):
    turned = PIL.Image.open(photo).transpose(PIL.Image.Transpose.ROTATE_90)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # shown after a turn by 90 degrees clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    wanted = json_of(Preprocessing(image_size=32))
    np.testing.assert_array_equal(
        snippet["model_input"](tmp_path / "turned.png", wanted), snippet["model_input"](photo, wanted)
    )


def test_the_page_classifies_as_the_model_does(snippet, tmp_path):
    model, card = digit_models.untrained(), digit_models.card(tmp_path)
    model_path = export_litert(model, tmp_path / "model.tflite")
    card.save(tmp_path / "model.json")
    height, width = card.preprocessing.image_size
    digit = np.random.default_rng(0).integers(0, 256, (height, width), np.uint8)
    PIL.Image.fromarray(digit).save(tmp_path / "digit.png")
    (scores,) = model.predict(card.preprocessing((tmp_path / "digit.png").read_bytes())[None], verbose=0)
    found = snippet["classify"](tmp_path / "digit.png", str(model_path), tmp_path / "model.json", top=10)
    assert [name for name, _ in found] == [card.class_names[index] for index in np.argsort(-scores)]
    np.testing.assert_allclose([score for _, score in found], np.sort(scores)[::-1], atol=1e-5)


def test_int8_is_as_much_faster_as_the_page_says():
    def gains(record):
        speeds = (ROOT / "benchmarks" / record).read_text(encoding="utf-8")
        rows = re.findall(r"\| 1 \| ([\w ]+) \| keras_mixer under LiteRT \| ([\d.]+) \|", speeds)
        speed = {precision: float(rate) for precision, rate in rows}
        return [speed[precision] / speed["float32"] for precision in ("dynamic int8", "full int8")]

    assert "about three times as fast as float32" in PAGE
    assert [round(gain) for gain in gains("speed_cpu.md")] == [3, 3]
    assert "more than six times as fast" in PAGE
    assert min(gains("speed_cpu_amx.md")) > 6


def json_of(preprocessing):
    """As `model.json` holds it."""
    return json.loads(preprocessing.to_json())
