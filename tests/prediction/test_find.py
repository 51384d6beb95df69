"""What files, folders, globs and parquet files stand for."""

import os
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from keras_mixer.prediction import find_images, left_over, locate

EVERYTHING = ["a.png", "b.jpg", "bad.png", "c.JPEG", "more/d.png"]


def names(shards) -> list[str]:
    return [name for shard in shards for name in shard.names]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", EVERYTHING),
        ("a.png", ["a.png"]),
        ("*.png", ["a.png", "bad.png"]),
        ("[ab].*", ["a.png", "b.jpg"]),
        ("**/*.png", ["a.png", "bad.png", "more/d.png"]),
        ("m*", ["more/d.png"]),
    ],
)
def test_paths_and_globs(images, pattern, expected):
    assert names(find_images([str(images / pattern)])) == [str(images / name) for name in expected]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", EVERYTHING),
        ("/a.png", ["a.png"]),
        ("/*.png", ["a.png", "bad.png"]),
        ("/**/*.png", ["a.png", "bad.png", "more/d.png"]),
        ("/*/*.png", ["more/d.png"]),
        ("/m*", ["more/d.png"]),
        ("/m*/", ["more/d.png"]),
    ],
)
def test_the_same_by_uri(images, pattern, expected):
    assert names(find_images([images.as_uri() + pattern])) == [str(images / name) for name in expected]


def test_spaces_in_a_uri_and_links_to_folders(images):
    (images / "my photographs").symlink_to(images / "more")
    uri = (images / "my photographs").as_uri()
    assert names(find_images([uri])) == [str(images / "my photographs" / "d.png")]
    assert str(images / "my photographs" / "d.png") in names(find_images([str(images)]))


def test_links_do_not_go_in_circles_and_lost_ones_are_not_passed_over(images):
    (images / "more" / "again").symlink_to(images)
    (images / "more" / "lost.jpg").symlink_to(images / "nowhere.jpg")
    os.mkfifo(images / "more" / "pipe.jpg")
    expected = [*EVERYTHING, "more/lost.jpg"]
    assert names(find_images([str(images)])) == [str(images / name) for name in sorted(expected)]


def test_a_file_system_is_asked_for_a_listing_and_not_for_each_file_in_it(monkeypatch):
    """To an object store each question is a request, and they are asked one after the other."""
    files, asked = MemoryFileSystem(), []
    answer = MemoryFileSystem.info
    monkeypatch.setattr(MemoryFileSystem, "info", lambda self, path: asked.append(path) or answer(self, path))

    def questions(pattern, expected):
        asked.clear()
        assert len(names(find_images([f"memory://bucket/photos/{pattern}"]))) == expected
        return list(asked)

    files.pipe({f"/bucket/photos/{number}.png": b"bytes" for number in range(20)})
    try:
        assert set(questions("*.png", 20)) == {"/bucket/photos"}
        assert set(questions("1*.png", 11)) == {"/bucket/photos"}
        assert questions("1.png", 1) == ["/bucket/photos/1.png"]
    finally:
        files.rm("/bucket", recursive=True)


def test_files_of_a_folder_that_are_none_of_the_images_are_counted(images, caplog):
    (images / "phone.DNG").touch()
    (images / "@eaDir").mkdir()
    (images / "@eaDir" / "a.png").touch()  # of another system
    find_images([str(images), str(images / "*.png")])
    (record,) = caplog.records
    assert record.getMessage() == f"{images}: Left out: 1 DNG file (phone.DNG), 1 other file (notes.txt)."


def test_each_image_once_and_named_by_its_absolute_path(images, monkeypatch):
    monkeypatch.chdir(images)
    found = find_images(["a.png", ".", "./more/../a.png", str(images / "*.png")])
    assert sorted(names(found)) == sorted(str(images / name) for name in EVERYTHING)


def test_a_name_with_the_signs_of_a_glob_is_a_name_if_it_is_there(images):
    os.rename(images / "a.png", images / "a[1].png")
    assert names(find_images([str(images / "a[1].png")])) == [str(images / "a[1].png")]


def test_what_is_left_out_and_what_is_done(images):
    found = find_images([str(images)], leave_out=locate(images / "more"))
    assert names(found) == [str(images / name) for name in EVERYTHING[:-1]]
    (shard,) = left_over(found, {str(images / name) for name in ("a.png", "bad.png")})
    assert shard.names == (str(images / "b.jpg"), str(images / "c.JPEG"))
    assert [reading() for reading in shard.readings()] == [(images / name).read_bytes() for name in ("b.jpg", "c.JPEG")]
    assert left_over(found, set(names(found))) == []


@pytest.mark.parametrize("missing", ["none.png", "none*.png", "empty"])
def test_what_is_not_there_is_named(images, missing):
    (images / "empty").mkdir()
    with pytest.raises(ValueError, match=missing.replace("*", r"\*")):
        find_images([str(images / missing)])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take no such names")
def test_a_name_that_is_not_utf8_is_escaped_and_its_file_is_not_read(images):
    os.rename(images / "a.png", images / "a\udcff.png")
    for pattern in (images, images / "*.png", images / "a\udcff.png", images.as_uri()):
        (shard,) = find_images([str(pattern)])
        reading = dict(zip(shard.names, shard.readings(), strict=True))[f"{images}/a\\xff.png"]
        with pytest.raises(OSError, match=r"images/a\\xff\.png is not UTF-8.*rename it"):
            reading()
    (images / "a\\xff.png").touch()
    with pytest.raises(ValueError, match="Two images are called"):
        find_images([str(images)])
    os.rename(images / "a\udcff.png", images / "a\udcff.parquet")
    with pytest.raises(OSError, match=r"images/a\\xff\.parquet is not UTF-8.*rename it"):
        find_images([str(images)])


BYTES = [b"one", b"two", None, b"four", b"five"]


def table(tmp_path, **columns) -> str:
    path = tmp_path / "images.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=2)
    return str(path)


def read(shards) -> dict:
    return {
        name: reading()
        for shard in shards
        for name, reading in zip(shard.names, shard.readings(), strict=True)
        if name not in ("2", "none")
    }


def test_rows_of_a_parquet_file_by_their_id(tmp_path):
    path = table(tmp_path, label=[1, 2, 3, 4, 5], id=[0, 1, 2, 3, 4], photo=BYTES)
    found = find_images([str(tmp_path)])
    assert names(found) == ["0", "1", "2", "3", "4"]
    assert read(found) == {"0": b"one", "1": b"two", "3": b"four", "4": b"five"}
    assert read(left_over(found, {"0", "2", "4"})) == {"1": b"two", "3": b"four"}
    with pytest.raises(OSError, match="holds no image"):
        [reading() for shard in find_images([path]) for reading in shard.readings()]


def test_rows_without_an_id_have_numbers(tmp_path):
    path = table(tmp_path, photo=BYTES)
    assert names(find_images([path])) == [f"{path}#{row}" for row in range(5)]


def test_images_in_a_record(tmp_path):
    records = [{"bytes": value, "path": str(index)} for index, value in enumerate(BYTES)]
    path = table(tmp_path, image=records, thumbnail=[b"small"] * 5, path=["one", "two", "none", "four", "five"])
    with pytest.raises(ValueError, match=r"2 columns of bytes, .* are image .*, path \(string\)\. .*--image-column"):
        find_images([path])
    found = find_images([path], image_column="image")
    assert read(found) == {name: name.encode() for name in ("one", "two", "four", "five")}


def test_names_must_be_unique(tmp_path):
    path = table(tmp_path, photo=BYTES, path=["a", "b", "c", "a", "d"], key=[1, 2, 3, 4, 5])
    with pytest.raises(ValueError, match=r"Two images are called 'a'.*--id-column"):
        find_images([path])
    assert names(find_images([path], id_column="key")) == ["1", "2", "3", "4", "5"]
    assert len(names(find_images([path], id_column="none"))) == 5
    with pytest.raises(ValueError, match="no column 'number'"):
        find_images([path], id_column="number")


@pytest.mark.parametrize(("value", "said"), [(None, "no value"), (b"b", "the bytes b'b'")])
def test_names_must_be_there_and_be_text_or_numbers(tmp_path, value, said):
    path = table(tmp_path, photo=BYTES, path=[value] * 5)
    with pytest.raises(ValueError, match=rf"images\.parquet has {said}.*'path'.*--id-column none"):
        find_images([path], image_column="photo")
    assert len(names(find_images([path], image_column="photo", id_column="none"))) == 5


def test_what_is_no_parquet_file_is_named(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"x\.parquet cannot be read as a parquet file"):
        find_images([str(tmp_path)])
