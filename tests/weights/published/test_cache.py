import hashlib
import os
import pathlib
import time

import pytest

from keras_mixer import weights

PATH = "/mixer_models/sam/Mixer-B_32.npz"


@pytest.fixture
def fetched(server):
    server.files[PATH] = b"weights" * 1000
    return weights.download("mixer_b32", "sam")


def test_a_changed_file_is_refused_at_the_next_use(fetched):
    content = bytearray(fetched.read_bytes())
    content[17] ^= 1
    fetched.write_bytes(content)
    with pytest.raises(ValueError, match="has changed since it was fetched"):
        weights.download("mixer_b32", "sam")
    fetched.write_bytes(b"weights" * 1000)
    assert weights.download("mixer_b32", "sam") == fetched


@pytest.mark.parametrize("record", ["", "\xff\xfe", "0" * 64])
def test_a_damaged_record_is_refused(fetched, record):
    fetched.with_name(fetched.name + ".sha256").write_text(record)
    with pytest.raises(ValueError, match=r"Delete both files"):
        weights.download("mixer_b32", "sam")


def test_a_hand_fetched_file_is_recorded_at_first_sight(cache, caplog):
    cache.mkdir(parents=True)
    path = cache / "mixer_b32-sam.npz"
    path.write_bytes(b"by hand")
    assert weights.download("mixer_b32", "sam") == path
    digest = hashlib.sha256(b"by hand").hexdigest()
    assert digest in caplog.text
    assert path.with_name(path.name + ".sha256").read_text().startswith(digest)
    path.write_bytes(b"by foot")
    with pytest.raises(ValueError, match="has changed"):
        weights.download("mixer_b32", "sam")


@pytest.fixture
def read_only(cache, monkeypatch):
    """A shared cache that belongs to somebody else, also for root, whom modes of files do not keep out."""

    def refused(path, *arguments, **options):
        raise PermissionError(13, "Permission denied", str(path))

    cache.mkdir(parents=True)
    (cache / "mixer_b32-sam.npz").write_bytes(b"by hand")
    stale = cache / ".partial-1-abcd-mixer_b16-sam.npz"
    stale.write_bytes(b"half")
    os.utime(stale, (time.time() - 25 * 3600,) * 2)
    for method in ("write_text", "unlink", "replace"):
        monkeypatch.setattr(pathlib.Path, method, refused)
    return cache


def test_a_read_only_cache_is_read_though_leftovers_stay_and_nothing_is_recorded(read_only, caplog):
    assert weights.download("mixer_b32", "sam").read_bytes() == b"by hand"
    assert "mixer_b32-sam.npz.sha256 cannot be written" in caplog.text
    assert "Permission denied" in caplog.text
    assert len(list(read_only.iterdir())) == 2


def test_a_read_only_cache_is_still_checked_against_what_is_recorded(read_only):
    with open(read_only / "mixer_b32-sam.npz.sha256", "w") as record:
        record.write("0" * 64)
    with pytest.raises(ValueError, match="has changed since it was fetched"):
        weights.download("mixer_b32", "sam")
