"""How folders are divided into splits and classes, as people have them."""

import os
import pathlib

import pytest

from keras_mixer import data
from keras_mixer.data.sources.layout import scan
from keras_mixer.listing import counted

CATS_AND_DOGS = ("train/cat", "train/dog", "test/cat", "test/dog")


def write(root: pathlib.Path, *folders: str, count: int = 2, suffix: str = "jpg") -> pathlib.Path:
    """Writes files that need not be images, because a scan opens none."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (root / folder / f"{number}.{suffix}").touch()
    return root


@pytest.mark.parametrize(
    ("folders", "sizes", "classes"),
    [
        (CATS_AND_DOGS, {"train": 4, "test": 4}, "cat dog"),
        (("Train/cat", "Train/dog", "VALID/cat", "Testing/dog"), {"Train": 4, "VALID": 2, "Testing": 2}, "cat dog"),
        (("train/cat", "train/dog", "dev/cat"), {"train": 4, "dev": 2}, "cat dog"),
        (("test/dog",), {"test": 2}, "dog"),
        (("cat", "dog"), {"train": 4}, "cat dog"),
        (("cat/2024/may", "cat", "dog/indoor"), {"train": 6}, "cat dog"),
        (("train/cat/a/b", "train/dog/c", "test/cat/d"), {"train": 4, "test": 2}, "cat dog"),
        # Classes that have the names of splits, because another folder has not, or nothing is divided by class.
        (("train", "car"), {"train": 4}, "car train"),
        (("train/2024", "car/2024"), {"train": 4}, "car train"),
        (("train", "test"), {"train": 4}, "test train"),
        # A further split of its own name.
        ((*CATS_AND_DOGS, "night/cat"), {"train": 4, "test": 4, "night": 2}, "cat dog"),
        # An archive in a folder of its own, with what other systems write.
        (("x/train/cat", "x/train/dog", "__MACOSX/x/train/cat", "x/@eaDir/a"), {"train": 4}, "cat dog"),
        ((*CATS_AND_DOGS, "train/cat/.thumbnails", "train/$RECYCLE.BIN"), {"train": 4, "test": 4}, "cat dog"),
        # The images of a competition: no folder says what they are.
        (("train/cat", "train/dog", "test/test"), {"train": 4}, "cat dog"),
        (("train/cat", "train/dog", "test"), {"train": 4}, "cat dog"),
        (("train/cat", "test/cat", "test/bird"), {"train": 2, "test": 4}, "bird cat"),
    ],
)
def test_splits_and_classes(tmp_path, folders, sizes, classes):
    layout = scan(write(tmp_path, *folders))
    assert layout.sizes == sizes
    assert layout.class_names == tuple(classes.split())


def test_splits_go_by_their_role(tmp_path):
    layout = scan(write(tmp_path, "TRAIN/cat", "TRAIN/dog", "val/cat", "testing/dog"))
    assert layout.resolve("train[:90%]+validation+test[1:]") == "TRAIN[:90%]+val+testing[1:]"
    assert layout.resolve("val+night") == "val+night"
    write(tmp_path, "valid/cat")
    assert scan(tmp_path).resolve("valid") == "valid"
    with pytest.raises(ValueError, match=r"The split 'validation' of .* could be val or valid: name one"):
        scan(tmp_path).resolve("validation")


def test_images_outside_of_class_folders_are_counted(tmp_path):
    write(tmp_path, *CATS_AND_DOGS)
    write(tmp_path, "train", count=10)
    write(tmp_path, "val/val")
    assert "12 images outside of class folders (in train, val/val)" in scan(tmp_path).left_out()
    with pytest.raises(ValueError, match=r"no split 'val'; it has test, train.*outside of class folders.*val/val"):
        data.load(str(tmp_path), split="val")


def test_links_are_followed_but_not_in_circles(tmp_path):
    write(tmp_path, "real/cat", "real/dog")
    (tmp_path / "train").symlink_to("real")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "cat").symlink_to("../real/cat")
    (tmp_path / "real" / "cat" / "again").symlink_to(".")
    (tmp_path / "real" / "dog" / "gone.jpg").symlink_to("nowhere")  # an image that cannot be read, not one less
    os.mkfifo(tmp_path / "real" / "dog" / "pipe.jpg")
    layout = scan(tmp_path)
    assert layout.class_names == ("cat", "dog")
    assert len(layout.images["train", "dog"]) == 3
    assert layout.sizes["test"] == 2


def test_an_empty_folder_is_a_class_and_that_of_a_tool_is_none(tmp_path):
    write(tmp_path, "train/cat", "train/dog", "train/bird")
    for path in (tmp_path / "train" / "bird").iterdir():
        path.rename(path.with_suffix(".dng"))
    write(tmp_path, "train/labels", suffix="txt")
    write(tmp_path, "train/fish", count=0)
    assert scan(tmp_path).empty == ("bird", "fish")


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    write(tmp_path, "train/cat", suffix="DNG")
    write(tmp_path, "train/cat", count=1, suffix="ini")
    with pytest.raises(ValueError, match=r"holds no images of classes.* 2 DNG files \(0\.DNG, \.\.\.\), 1 other file"):
        scan(tmp_path)


def test_heic_files_name_the_extra_that_reads_them():
    text = counted(["a/desktop.ini", "a/IMG_1.HEIC", "a/clip.mov", "a/b.webp", "a/c.webp"])
    assert text == (
        "2 WEBP files (b.webp, ...), 1 HEIC file (IMG_1.HEIC), 1 MOV file (clip.mov), 1 other file (desktop.ini). HEIC "
        'needs: pip install "keras_mixer[heif]"'
    )


def test_heic_files_are_read_with_the_extra_alone(tmp_path, monkeypatch):
    write(tmp_path, "train/cat", "train/dog", suffix="HEIC")
    monkeypatch.setattr("keras_mixer.listing._lacks_heif", lambda: True)
    with pytest.raises(ValueError, match=r"4 HEIC files .* HEIC needs: pip install \"keras_mixer\[heif\]\""):
        scan(tmp_path)
    monkeypatch.setattr("keras_mixer.listing._lacks_heif", lambda: False)
    assert scan(tmp_path).sizes == {"train": 4}


def test_a_listing_keeps_files_that_are_gone(tmp_path):
    layout = scan(write(tmp_path, "cat", "dog", count=3))
    (tmp_path / "cat" / "1.jpg").unlink()
    write(tmp_path, "cat", count=5)
    (tmp_path / "cat" / "2.jpg").unlink()
    kept = scan(tmp_path).kept(layout.listing())
    assert kept.images == layout.images
    assert kept.gone == {str(tmp_path / "cat" / "2.jpg")}
