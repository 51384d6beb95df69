import os
import signal
import stat
import time

import pytest

from keras_mixer.download import cache_directory, cached_file
from keras_mixer.files import held_alone, remove_partial_files, scratch_folder, written_whole


def test_the_file_appears_whole_and_replaces_the_one_before(tmp_path):
    path = tmp_path / "new" / "card.json"
    for content in ("first", "second"):
        with written_whole(path, durable=True) as partial:
            assert partial.suffix == ".json"
            partial.write_text(content)
            assert not path.exists() or path.read_text() == "first"
    assert path.read_text() == "second"
    assert os.listdir(path.parent) == ["card.json"]


def test_a_folder_is_held_by_one_at_a_time(tmp_path):
    folder = tmp_path / "run"
    with (
        held_alone(folder),
        pytest.raises(ValueError, match=r"Another process is writing to .*run"),
        held_alone(folder),
    ):
        pass
    with held_alone(folder):  # it is free again, and nothing is left in it
        assert list(folder.iterdir()) == []


def test_an_error_leaves_what_was_there(tmp_path):
    path = tmp_path / "weights.npz"
    path.write_text("before")
    with pytest.raises(IsADirectoryError), written_whole(path) as partial:
        (partial.write_text("half"), tmp_path.write_text("a folder is no file"))
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["weights.npz"]


def test_writers_at_the_same_time_do_not_share_a_partial_file(tmp_path):
    with written_whole(tmp_path / "file") as first, written_whole(tmp_path / "file") as second:
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "file").read_text() == "first"  # its block ended last


@pytest.mark.filterwarnings("ignore:os.fork")  # of JAX, if another test has imported it
def test_what_a_killed_writer_leaves_can_be_removed(tmp_path):
    child = os.fork()
    if child == 0:
        with written_whole(tmp_path / "weights.npz") as partial:
            partial.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (tmp_path / "other.npz").write_text("whole")
    assert len(os.listdir(tmp_path)) == 2
    remove_partial_files(tmp_path)
    assert os.listdir(tmp_path) == ["other.npz"]


def aged(path, hours):
    path.parent.mkdir(exist_ok=True)
    path.write_text("half")
    os.utime(path, (time.time() - 3600 * hours,) * 2)
    return path


def test_what_a_killed_writer_left_of_a_file_is_gone_a_day_later(tmp_path):
    old = aged(tmp_path / ".partial-1-abcd-weights.npz", 25)
    young, other = aged(tmp_path / ".partial-2-abcd-weights.npz", 23), aged(tmp_path / ".partial-1-abcd-other.npz", 25)
    with written_whole(tmp_path / "weights.npz") as partial:
        partial.write_text("whole")
    assert not old.exists()
    assert young.exists()  # somebody may be writing it
    assert other.exists()


def test_downloads_that_were_killed_leave_the_cache_at_its_next_use(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    folder = cache_directory()
    old, young = aged(folder / ".partial-1-abcd-a.npz", 25), aged(folder / ".partial-2-abcd-b.npz", 23)
    aged(folder / "c.txt", 25)
    cached_file("https://127.0.0.1:9/c.txt", "c.txt")
    assert [old.exists(), young.exists()] == [False, True]


def test_exports_that_were_killed_are_gone_a_day_later(tmp_path):
    old, young = tmp_path / ".export-old", tmp_path / ".export-young"
    for folder, hours in ((old, 25), (young, 23)):
        aged(folder / "model.tflite", hours)
        os.utime(folder, (time.time() - 3600 * hours,) * 2)
    with scratch_folder(tmp_path) as scratch:
        assert sorted(tmp_path.iterdir()) == sorted([young, scratch])


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_who_may_read_it_follows_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        with written_whole(tmp_path / "file") as partial:
            partial.write_text("content")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask
