"""From a folder of photographs as a phone leaves it to a model, as `docs/photographs.md` tells it."""

import csv
import json
import pathlib

import photographs
import pytest

from keras_mixer.cli.main import main

NEW = 60
SMALL = {
    **{"variant": "null", "num_blocks": "1", "patch_size": "8", "hidden_dim": "8"},
    **{"tokens_mlp_dim": "8", "channels_mlp_dim": "8", "weights": "null"},
}


def run(capsys, *arguments) -> tuple[int, str]:
    """Runs a command; returns its exit status and what it printed."""
    try:
        main([str(argument) for argument in arguments])
        status = 0
    except SystemExit as end:
        status = end.code or 0
    return status, capsys.readouterr().out


def read(path: pathlib.Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def new_photographs(folder: pathlib.Path, count: int, size: tuple[int, int]) -> pathlib.Path:
    """Writes photographs that no other folder holds, named by what they show."""
    folder.mkdir()
    for number in range(count):
        name = ("cups", "bottles")[number % 2]
        (folder / f"{name}_{number:02}.jpg").write_bytes(photographs.phone_photograph(number % 2, 9000 + number, size))
    return folder


def test_a_folder_of_a_phone_becomes_a_model(capsys, tmp_path):
    pytest.importorskip("pillow_heif")
    photos, clean, trained = tmp_path / "photos", tmp_path / "clean", tmp_path / "run"
    photographs.phone_folder(photos, 24, (64, 48))
    status, output = run(capsys, "data", photos, "--prepare", clean)
    assert status == 2
    assert "Formats: 29 JPEG, 2 HEIC." in output  # 24, four copies and one cut short
    assert f"Left out of {photos}: 1 MOV file (IMG_1004.MOV), 1 other file (notes.txt)." in output
    assert f"Cannot be read: {photos}/cups/IMG_2998.jpg: " in output
    assert output.count("\nEqual") == 4
    assert "DS_Store" not in output
    assert run(capsys, "data", clean)[0] == 0
    (photos / "cups" / "IMG_2998.jpg").unlink()

    settings = [f"--set=model.{name}={value}" for name, value in SMALL.items()]
    settings += ["--image-size=16", "--set=schedule.steps=2", "--set=suited=[]", "--set=schedule.warmup_steps=0"]
    assert run(capsys, "train", "--recipe", "finetune", "--dataset", photos, "--output", trained, *settings)[0] == 0
    status, output = run(capsys, "evaluate", trained, "--dataset", photos, "--split", "train", "--json")
    assert (status, json.loads(output)[0]["examples"]) == (0, 30)

    heic = [photos / "cups" / "IMG_3000.HEIC", photos / "bottles" / "IMG_3001.HEIC"]
    scores = tmp_path / "scores.csv"
    assert run(capsys, "predict", "--model", trained, *heic, "--output", scores)[0] == 0
    rows = read(scores)
    assert [*rows[0]] == ["path", "label_1", "score_1", "label_2", "score_2", "error"]
    assert [row["error"] for row in rows] == ["", ""]


def test_300_phone_photographs_teach_a_model_to_name_nine_of_ten_new_ones(capsys, tmp_path):
    """The run of `docs/photographs.md`."""
    photos, clean, trained = photographs.phone_folder(tmp_path / "photos"), tmp_path / "clean", tmp_path / "run"
    assert run(capsys, "data", photos, "--prepare", clean, "--side", "256")[0] == 2
    assert run(capsys, "data", clean)[0] == 0
    assert run(capsys, "weights", "save", "mixer_nano", "cifar10", tmp_path / "mixer_nano")[0] == 0
    arguments = ["--recipe", "finetune", "--weights", tmp_path / "mixer_nano", "--dataset", clean, "--output", trained]
    assert run(capsys, "train", *arguments)[0] == 0
    new = new_photographs(tmp_path / "new", NEW, (4000, 3000))
    assert run(capsys, "predict", "--model", trained, new, "--output", tmp_path / "new.csv")[0] == 0
    rows = read(tmp_path / "new.csv")
    right = sum(pathlib.Path(row["path"]).name.startswith(row["label_1"]) for row in rows)
    assert len(rows) == NEW
    assert right >= 0.9 * NEW
