import contextlib
import io

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from keras_mixer import data
from keras_mixer.data.sources.digits import Digits


@pytest.fixture(autouse=True, scope="module")
def clean_keras_state():
    """Once per module here, for hardly a test builds a model and clearing takes longer than most of them."""
    yield
    keras.utils.clear_session(free_memory=False)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A TFDS folder with the digits in it."""
    folder = str(tmp_path_factory.mktemp("tfds"))
    data.load("digits", data_dir=folder)
    return folder


@pytest.fixture(scope="session")
def digits_in_files(tmp_path_factory):
    """A TFDS folder with the digits in forty files of training and of test examples each."""
    folder = str(tmp_path_factory.mktemp("tfds"))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        Digits(data_dir=folder).download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=40))
    return folder


@pytest.fixture
def photograph():
    """A smooth image with edges, uint8 (45, 60, 3), no two channels alike."""
    y, x = np.mgrid[0:45, 0:60]
    channels = [4 * x + y, 2 * y + 30 * (x > 40), 200 - 3 * y + (x - 30) ** 2 / 20]
    return np.clip(np.stack(channels, axis=-1), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def encoded():
    """Encodes an image with Pillow."""

    def encode(image, file_format="PNG", **options):
        content = io.BytesIO()
        PIL.Image.fromarray(image.squeeze()).save(content, format=file_format, **options)
        return content.getvalue()

    return encode


@pytest.fixture
def image_folder(tmp_path, encoded):
    """Twelve JPEGs of three sizes and two classes for training, four for testing; each has a brightness of its own."""
    for number in range(16):
        path = tmp_path / ("train" if number < 12 else "test") / ("ant", "bee")[number % 2] / f"{number:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        flat = np.full((20 + number % 3, 24, 3), 15 * number, np.uint8)
        path.write_bytes(encoded(flat, "JPEG"))
    return tmp_path
