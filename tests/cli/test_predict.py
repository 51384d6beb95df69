import json

import digit_models
import numpy as np
import pytest
from PIL import Image

from keras_mixer.cli.main import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return digit_models.write_run(tmp_path_factory.mktemp("runs") / "digits")


@pytest.fixture
def images(tmp_path):
    random = np.random.default_rng(0)
    for name in ("a.png", "b.jpg"):
        Image.fromarray(random.integers(0, 256, (20, 20, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "bad.png").write_bytes(b"not an image")
    return tmp_path


def status(*arguments) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return exit_.value.code


def test_lists_the_best_classes_of_each_image(run, images, capsys):
    assert status("predict", "--model", run, "--top", 3, "--json", images / "a.png", images / "b.jpg") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["image"], row["rank"]) for row in rows] == [
        (str(images / name), rank) for name in ("a.png", "b.jpg") for rank in (1, 2, 3)
    ]
    for first in (0, 3):
        scores = [row["score"] for row in rows[first : first + 3]]
        assert scores == sorted(scores, reverse=True)
    assert {row["class"] for row in rows} <= set("0123456789")


def test_bad_files_are_one_line_each_and_the_good_ones_are_predicted(run, images, capsys):
    assert status("predict", "--model", run, images / "bad.png", images / "a.png", images / "missing.png", images) == 2
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 3
    assert "bad.png is not a readable JPEG or PNG image" in errors[0]
    assert "missing.png" in errors[1]
    assert "a.png" in captured.out.replace("\n", "")
    assert "Traceback" not in captured.err


def test_the_model_must_be_named(images, capsys):
    assert status("predict", images / "a.png") == 2
    assert "--model" in capsys.readouterr().err
