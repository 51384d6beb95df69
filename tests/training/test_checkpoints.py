import os

import numpy as np
import pytest

from keras_mixer.files import written_whole
from keras_mixer.training.loop.checkpoints import CheckpointStore

ARRAYS = {
    "model/0": np.arange(6, dtype="float32").reshape(2, 3),
    "optimizer/0": np.array(7, dtype="int32"),
    "seed": np.array([1, 2], dtype="uint32"),
}


def test_round_trip_keeps_values_types_and_notes(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(5, ARRAYS, {"rows": [{"loss": 0.5}], "seconds": 1.5})
    step, arrays, notes = store.load_newest()
    assert step == 5
    assert notes == {"rows": [{"loss": 0.5}], "seconds": 1.5}
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].shape == array.shape


def test_the_last_few_are_kept(tmp_path):
    store = CheckpointStore(tmp_path, kept=2)
    for step in (9, 100, 1000):
        store.save(step, ARRAYS, {})
    assert store.steps() == [100, 1000]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_damaged_checkpoint_gives_way_to_the_one_before_with_a_warning(tmp_path, caplog):
    store = CheckpointStore(tmp_path)
    store.save(1, ARRAYS, {})
    damaged = store.save(2, ARRAYS, {})
    damaged.write_bytes(damaged.read_bytes()[:-4])
    assert store.load_newest()[0] == 1
    assert "Going on from step 1, because step_000000002.safetensors (" in caplog.text


def test_only_damaged_checkpoints_are_an_error(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(1, ARRAYS, {}).write_bytes(b"")
    with pytest.raises(ValueError, match=r"No checkpoint .* can be read: step_000000001"):
        store.load_newest()


def test_a_damaged_checkpoint_does_not_hide_that_readable_ones_were_skipped(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(1, ARRAYS, {})
    store.save(2, ARRAYS, {}).write_bytes(b"")
    assert store.load_newest(lambda step, notes: False) is None


def test_what_a_killed_process_left_half_written_goes(tmp_path):
    left = written_whole(tmp_path / "step_000000001.safetensors")
    left.__enter__().write_bytes(b"half")  # as after a kill: the block never ends
    CheckpointStore(tmp_path).save(2, ARRAYS, {})
    assert [path.name for path in tmp_path.iterdir()] == ["step_000000002.safetensors"]


@pytest.mark.filterwarnings("ignore:os.fork")  # of JAX, if another test has imported it; the child uses neither
def test_a_full_disk_leaves_the_earlier_checkpoint(tmp_path):
    """The limit on file size stops the write midway, as a full disk does, in a process of its own."""
    store = CheckpointStore(tmp_path)
    store.save(1, ARRAYS, {})
    child = os.fork()
    if child == 0:
        import resource
        import signal

        status = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
            store.save(2, {"model/0": np.zeros(100_000, "float32")}, {})
        except OSError as error:
            status = 0 if "step 2 could not be written" in str(error) else 2
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["step_000000001.safetensors"]
    assert store.load_newest()[0] == 1


def test_no_checkpoint(tmp_path):
    assert CheckpointStore(tmp_path / "none").load_newest() is None
