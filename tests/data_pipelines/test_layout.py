"""How folders are divided into splits and classes, as people have them."""

import os
import pathlib
import unicodedata

import pytest

from keras_mixer import data
from keras_mixer.data.sources.layout import in_role, load_listing, save_listing, scan
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
        (("train/cat", "train/dog", "eval/cat", "holdout/dog"), {"train": 4, "eval": 2, "holdout": 2}, "cat dog"),
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
        (("train/cat", "train/dog", "test/unknown"), {"train": 4}, "cat dog"),
        (("train/cat", "test/cat", "test/bird"), {"train": 2, "test": 4}, "bird cat"),
        # Longer names, folders that archives leave, and images beside the splits.
        (("training_set/cat", "training_set/dog", "test_set/dog"), {"training_set": 4, "test_set": 2}, "cat dog"),
        (("train2017/cat", "TestData/cat"), {"train2017": 2, "TestData": 2}, "cat"),
        (
            ("seg_train/seg_train/sea", "seg_train/seg_train/ice", "seg_test/seg_test/ice", "seg_pred/seg_pred"),
            {"seg_train": 4, "seg_test": 2},
            "ice sea",
        ),
        (("train/train/cat", "train/train/dog", "test/test/cat"), {"train": 4, "test": 2}, "cat dog"),
        ((*CATS_AND_DOGS, "extra"), {"train": 4, "test": 4}, "cat dog"),
        ((*CATS_AND_DOGS, "night shots/cat"), {"train": 4, "test": 4, "night shots": 2}, "cat dog"),
        # Classes of longer names that contain such words.
        (("train station/2020", "bus station/2020"), {"train": 4}, "bus station,train station"),
        (("dev board/a", "test strip/a"), {"train": 4}, "dev board,test strip"),
    ],
)
def test_splits_and_classes(tmp_path, folders, sizes, classes):
    layout = scan(write(tmp_path, *folders))
    assert layout.sizes == sizes
    assert layout.class_names == tuple(classes.split("," if "," in classes else None))


def test_splits_go_by_their_role(tmp_path):
    layout = scan(write(tmp_path, "TRAIN/cat", "TRAIN/dog", "val/cat", "testing/dog"))
    assert layout.resolve("train[:90%]+validation+test[1:]") == "TRAIN[:90%]+val+testing[1:]"
    assert layout.resolve("val+night+test_set") == "val+night+test_set"
    write(tmp_path, "valid/cat")
    assert scan(tmp_path).resolve("valid") == "valid"
    with pytest.raises(ValueError, match=r"The split 'validation' of .* could be val or valid: name one"):
        scan(tmp_path).resolve("validation")


def test_splits_of_longer_names_go_by_their_role(tmp_path):
    layout = scan(write(tmp_path, "my train/cat", "my train/dog", "test_set/cat", "test/dog"))
    assert layout.resolve("train[:90%]+test") == "my train[:90%]+test"
    assert in_role(layout.sizes, "test") == ["test"]
    assert data.load(str(tmp_path), split="train[:50%]").num_examples == 2


def test_names_are_compared_in_one_form_of_unicode(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    write(tmp_path, f"train/{composed}", count=3)
    write(tmp_path, f"train/{decomposed}", f"val/{decomposed}", "train/dog", "val/dog")
    layout = scan(tmp_path)
    assert layout.class_names == (composed, "dog")
    assert len(layout.images["train", composed]) == 5
    assert layout.sizes == {"train": 7, "val": 4}


def test_a_class_that_is_not_utf8_is_named(tmp_path):
    write(tmp_path, "cat", os.fsdecode(b"caf\xe9"))
    with pytest.raises(ValueError, match=r"class caf\\xe9 in .* is not UTF-8"):
        scan(tmp_path)


def test_a_file_in_place_of_a_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("photos.zip").touch()
    for name in ("./photos.zip", "photos.zip"):
        with pytest.raises(ValueError, match=r"photos\.zip is not a folder: unpack an archive"):
            data.load(name)


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
    (tmp_path / "real" / "dog" / "circle.jpg").symlink_to("circle.jpg")
    os.mkfifo(tmp_path / "real" / "dog" / "pipe.jpg")
    (tmp_path / "real" / "dog" / "endless.jpg").symlink_to("pipe.jpg")
    layout = scan(tmp_path)
    assert layout.class_names == ("cat", "dog")
    assert len(layout.images["train", "dog"]) == 4
    assert {os.path.basename(path) for path in layout.others} == {"pipe.jpg", "endless.jpg"}
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


@pytest.mark.parametrize("suffix", ["HEIC", "HIF"])  # the second of cameras
def test_heic_files_are_read_with_the_extra_alone(tmp_path, monkeypatch, suffix):
    write(tmp_path, "train/cat", "train/dog", suffix=suffix)
    monkeypatch.setattr("keras_mixer.listing.installed", lambda name: name != "pillow_heif")
    with pytest.raises(ValueError, match=rf"4 {suffix} files .* HEIC needs: pip install \"keras_mixer\[heif\]\""):
        scan(tmp_path)
    monkeypatch.setattr("keras_mixer.listing.installed", lambda name: name == "pillow_heif")
    assert scan(tmp_path).sizes == {"train": 4}


def test_a_listing_keeps_files_that_are_gone(tmp_path):
    layout = scan(write(tmp_path, "cat", "dog", count=3))
    (tmp_path / "cat" / "1.jpg").unlink()
    write(tmp_path, "cat", count=5)
    (tmp_path / "cat" / "2.jpg").unlink()
    save_listing(layout.listing(), tmp_path / "run")
    (tmp_path / "run" / "model.keras").touch()
    listing = load_listing(tmp_path / "run" / "model.keras")  # named by its file or its folder
    assert listing == load_listing(tmp_path / "run")
    kept = scan(tmp_path).kept(listing)
    assert kept.images == layout.images
    assert kept.gone == {str(tmp_path / "cat" / "2.jpg")}
