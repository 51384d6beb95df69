import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def run(digits):
    return digits / "run"


@pytest.fixture
def images(tmp_path):
    """Five images in a folder and one below it, one of them damaged, beside files that are none."""
    random = np.random.default_rng(0)
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    for name in ("a.png", "b.jpg", "c.JPEG", "more/d.png"):
        Image.fromarray(random.integers(0, 256, (20, 30, 3), np.uint8)).save(folder / name)
    (folder / "bad.png").write_bytes(b"not an image")
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_bytes(b"not an image")
    return folder
