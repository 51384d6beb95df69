import multiprocessing
import os

import pytest

from keras_mixer.cores import usable_cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="This system cannot tie a process to a core.")
def test_a_process_tied_to_one_core_uses_one():
    with multiprocessing.get_context("spawn").Pool(1, os.sched_setaffinity, (0, {min(os.sched_getaffinity(0))})) as one:
        assert one.apply(usable_cores) == 1
    assert usable_cores() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("machine", "cores"), [(12, 12), (None, 1)])
def test_where_the_system_does_not_tell_all_of_the_machine_are_used(monkeypatch, machine, cores):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # as on macOS and Windows
    monkeypatch.setattr(os, "cpu_count", lambda: machine)
    assert usable_cores() == cores
