import hashlib

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
