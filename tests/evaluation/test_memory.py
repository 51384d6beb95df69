import os

import pytest

from keras_mixer.evaluation.throughput import available_memory

MEMINFO = "MemTotal: 8000 kB\nMemFree: 1000 kB\nMemAvailable: 6000 kB\nCached: 5200 kB\nHugePages_Total: 0\n"


def host(folder, cgroup="", **files):
    """A folder that looks like the root of a host."""
    for path, text in {"proc/meminfo": MEMINFO, "proc/self/cgroup": cgroup, **files}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def test_the_cache_of_files_counts_as_available(tmp_path):
    assert available_memory(host(tmp_path)) == 6000 * 1024


@pytest.mark.parametrize("group", ["/", "/pod", "/pod/container", "/of/the/host"])
def test_a_control_group_leaves_its_limit_less_what_is_used_but_for_its_cache(tmp_path, group):
    """Wherever in the hierarchy the process is, and where a container sees a path of the host's."""
    files = {"memory.max": "3000000\n", "memory.current": "2500000\n", "memory.stat": "anon 1\ninactive_file 2000000\n"}
    limits = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    inner = {"sys/fs/cgroup/pod/memory.max": "max\n", "sys/fs/cgroup/pod/memory.current": "7\n"}
    assert available_memory(host(tmp_path, f"0::{group}\n", **limits, **inner)) == 2_500_000


def test_the_tightest_limit_counts(tmp_path):
    files = {}
    for path, limit in {"": 5_000_000, "/pod": 900_000, "/pod/container": 4_000_000}.items():
        files[f"sys/fs/cgroup{path}/memory.max"] = f"{limit}\n"
        files[f"sys/fs/cgroup{path}/memory.current"] = "100000\n"
    assert available_memory(host(tmp_path, "0::/pod/container\n", **files)) == 800_000


def test_control_groups_of_version_1(tmp_path):
    names = {
        "limit_in_bytes": "3000000",
        "usage_in_bytes": "2000000",
        "stat": "inactive_file 5\ntotal_inactive_file 10",
    }
    files = {f"sys/fs/cgroup/memory/a/memory.{name}": text for name, text in names.items()}
    assert available_memory(host(tmp_path, "5:cpu:/a\n4:memory:/a\n0::/\n", **files)) == 1_000_010


def test_a_host_that_tells_nothing_is_asked_for_free_pages(tmp_path):
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < available_memory(tmp_path) < whole


def test_where_there_is_no_sysconf_memory_is_taken_for_endless(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sysconf")  # as on Windows
    assert available_memory(tmp_path) == float("inf")


def test_this_host_has_some():
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 2**20 < available_memory() < whole
