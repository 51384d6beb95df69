import os
import pathlib
import shutil

import pytest
import tensorflow_datasets as tfds

from keras_mixer import data


def test_reads_what_tfds_reads(image_folder):
    builder = tfds.folder_dataset.ImageFolder(str(image_folder))
    for split in ("train", "test"):
        source = data.load(str(image_folder), split=split)
        theirs = {(e["image/filename"].decode(), e["label"]) for e in tfds.as_numpy(builder.as_dataset(split=split))}
        assert set(zip(source.paths, source.labels, strict=True)) == theirs
        assert source.class_names == tuple(builder.info.features["label"].names)


def test_examples(image_folder):
    source = data.load(str(image_folder), split="test")
    examples = list(source.examples().as_numpy_iterator())
    assert [(e["index"], e["label"]) for e in examples] == [(0, 0), (1, 1), (2, 0), (3, 1)]
    for example in examples:
        assert example["image"] == pathlib.Path(source.location(example["index"])).read_bytes()


def test_only_chosen_files_are_read(image_folder):
    source = data.load(str(image_folder), split="test")
    first, second = (pathlib.Path(source.location(index)).read_bytes() for index in (1, 3))
    for index in (0, 2):
        pathlib.Path(source.location(index)).unlink()
    chosen = source.chosen([1, 3])
    assert (chosen.num_examples, chosen.labels.tolist()) == (2, [1, 1])
    examples = list(chosen.examples().as_numpy_iterator())
    assert [example["image"] for example in examples] == [first, second]
    assert [chosen.location(example["index"]) for example in examples] == [source.location(1), source.location(3)]


@pytest.mark.parametrize(
    ("split", "size"), [("train[:50%]", 6), ("train+test", 16), ("train[-3:]", 3), ("test[1:]", 3)]
)
def test_split_expressions(image_folder, split, size):
    assert data.load(str(image_folder), split=split).num_examples == size


def test_every_slice_has_its_share_of_each_class(image_folder):
    for number in range(6):  # of bees, twice as many as ants
        name = f"{number + 12:02}.jpg"
        (image_folder / "train" / "bee" / name).write_bytes((image_folder / "train" / "ant" / "00.jpg").read_bytes())
    for split, ants in (("train[:50%]", 3), ("train[50%:]", 3), ("train[:6]", 2)):
        source = data.load(str(image_folder), split=split)
        assert (source.labels == 0).sum() == ants, split
        assert len(source.labels) == 3 * ants, split


def test_other_files_are_left_out_with_one_warning(image_folder, caplog):
    for name in ("notes.txt", "Thumbs.db", "clip.MP4", "a.dng", "b.DNG"):
        (image_folder / "train" / "ant" / name).write_bytes(b"not an image that is read")
    (image_folder / "README").write_text("not a split")
    shutil.copy(image_folder / "train/ant/00.jpg", image_folder / "train/loose.jpg")
    for split in ("train", "test"):
        assert data.load(str(image_folder), split=split).num_examples == {"train": 12, "test": 4}[split]
    (record,) = caplog.records
    assert record.getMessage() == (
        f"Left out of {image_folder}: 1 image outside of class folders (in train), 2 DNG files (a.dng, ...), "
        f"1 MP4 file (clip.MP4), 3 other files (README, ...)."
    )


def test_hidden_files_and_folders_are_passed_over(image_folder, caplog):
    for folder in (".git/objects", "train/.ipynb_checkpoints"):
        (image_folder / folder).mkdir(parents=True)
        shutil.copy(image_folder / "train/ant/00.jpg", image_folder / folder / "00.jpg")
    for name in ("._00.jpg", ".DS_Store"):
        (image_folder / "train/ant" / name).write_bytes(b"metadata")
    source = data.load(str(image_folder))
    assert (source.class_names, source.num_examples) == (("ant", "bee"), 12)
    assert not caplog.records


def test_a_class_without_images_does_not_count(image_folder):
    (image_folder / "train" / "cat").mkdir()
    source = data.load(str(image_folder))
    assert source.class_names == ("ant", "bee")
    assert source.layout.empty == ("cat",)
    shutil.move(image_folder / "train/ant/00.jpg", image_folder / "train/cat/tom.GIF")
    assert data.load(str(image_folder)).class_names == ("ant", "bee", "cat")


def test_a_name_that_is_not_utf8_is_read_and_printed(image_folder):
    odd = os.fsencode(image_folder / "test" / "ant") + b"/caf\xe9.jpg"
    shutil.copy(image_folder / "test/ant/12.jpg", odd)
    source = data.load(str(image_folder), split="test")
    (place,) = [index for index in range(source.num_examples) if source.location(index).endswith("caf\\xe9.jpg")]
    examples = list(source.examples().as_numpy_iterator())
    assert examples[place]["image"] == pathlib.Path(os.fsdecode(odd)).read_bytes()


def test_a_name_with_a_separator_is_a_folder(image_folder, monkeypatch):
    monkeypatch.chdir(image_folder.parent)
    for name in (f"./{image_folder.name}", f"{image_folder.name}/"):
        assert data.load(name).num_examples == 12


def test_errors(image_folder, tmp_path_factory):
    with pytest.raises(ValueError, match="no split 'validation'; it has test, train"):
        data.load(str(image_folder), split="validation")
    with pytest.raises(ValueError, match="is empty"):
        data.load(str(image_folder), split="train[:0]")
    with pytest.raises(ValueError, match="There is no folder nowhere"):
        data.load("./nowhere")
    with pytest.raises(ValueError, match="no/where is neither a folder nor a TFDS dataset"):
        data.load("no/where")
    with pytest.raises(ValueError, match=r"holds no images.*train/CLASS/IMAGE.jpg"):
        data.load(str(tmp_path_factory.mktemp("empty")))
