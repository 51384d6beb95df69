import json
import os
import shutil

import PIL.Image
import pytest
from photographs import folder

from keras_mixer.cli.main import main

CATS_AND_DOGS = {"train/cat": 0, "train/dog": 1, "val/cat": 0, "val/dog": 1}


def examined(capsys, *arguments) -> tuple[int, str]:
    with pytest.raises(SystemExit) as exit_:
        main(["data", *map(str, arguments)])
    return exit_.value.code, capsys.readouterr().out


def test_a_good_folder_ends_with_status_0(capsys, tmp_path):
    images = folder(tmp_path / "images", CATS_AND_DOGS, count=2)
    status, output = examined(capsys, images, "--sheet", tmp_path / "sheet.png")
    assert status == 0
    assert "training on train, evaluation on val" in " ".join(output.split())
    assert output.endswith("Training can begin.\n")
    assert (tmp_path / "sheet.png").exists()
    status, output = examined(capsys, images, "--json")
    (report,) = json.loads(output)
    assert (status, report["problems"]) == (0, [])
    assert report["used"] == {"training": "train", "evaluation": "val"}
    assert report["classes"] == {"cat": {"train": 2, "val": 2}, "dog": {"train": 2, "val": 2}}


def test_what_is_wrong_is_named_and_gives_status_2(capsys, tmp_path):
    images = folder(tmp_path / "images", {**CATS_AND_DOGS, "val/bird": 2}, count=2)
    shutil.copy(images / "train/cat/000.jpg", images / "val/cat/copy.jpg")
    (images / "train/cat/padded.jpg").write_bytes((images / "train/cat/000.jpg").read_bytes() + b"\0")
    for name in ("train/dog/one.jpg", "train/dog/two.jpg"):
        (images / name).write_bytes(b"no image")
    status, output = examined(capsys, images)
    assert status == 2
    assert "bird (only in val)" in output
    assert "2 images cannot be read" in output
    assert f"Cannot be read: {images}/train/dog/one.jpg: " in output
    assert "1 image is in train and val at once" in output
    places = [f"{images}/{name}.jpg" for name in ("train/cat/000", "train/cat/padded", "val/cat/copy")]
    assert f"Nearly equal across train and val: {', '.join(places)}" in output


def test_a_clean_copy_keeps_duplicates_together(capsys, tmp_path):
    images = folder(tmp_path / "images", {"cat": 0, "dog": 1}, count=12, size=(60, 40), orientations=(6, None))
    shutil.copy(images / "cat/000.jpg", images / "cat/zzz.jpg")
    shutil.copy(images / "cat/001.jpg", images / "cat/006.JPG")  # whose copy would have the name of another
    (images / "dog/bad.jpg").write_bytes(b"no image")
    (images / "dog/000.jpg").rename(images / "dog" / os.fsdecode(b"caf\xe9.jpg"))
    clean = tmp_path / "clean"
    status, output = examined(capsys, images, "--prepare", clean, "--side", 30)
    assert status == 2  # the folder has an unreadable image
    assert "1 image is in training and evaluation at once" in output  # the first and the last of the cats
    assert f"{images}/cat/000.jpg and {images}/cat/zzz.jpg. --prepare keeps them together." in output
    files = {path.relative_to(clean).as_posix() for path in clean.rglob("*.jpg")}
    assert len(files) == 26
    assert {path.split("/")[0] for path in files} == {"train", "validation", "test"}
    places = {path.rpartition("/")[2]: path.rpartition("/")[0] for path in files if "cat" in path}
    assert places["000.jpg"] == places["zzz.jpg"]
    with PIL.Image.open(clean / places["000.jpg"] / "000.jpg") as image:
        assert (image.size, image.getexif().get(0x0112)) == ((30, 20), None)
    assert examined(capsys, clean)[0] == 0
    assert examined(capsys, images, "--prepare", clean)[0] == 2
    assert not (images / "again").exists()


@pytest.mark.parametrize("name", ["./nowhere", "not_a_dataset"])
def test_what_is_not_there_is_one_line(capsys, name):
    with pytest.raises(SystemExit) as exit_:
        main(["data", name])
    assert exit_.value.code == 2
    assert "There is no " in capsys.readouterr().err
