"""How much of the host's memory this process may still take."""

import os
import pathlib
from collections.abc import Iterator

# Controllers in a line of /proc/self/cgroup -> where they are mounted, and their names for the limit, for what is used
# and for the share of that which is only a cache of files.
_CONTROL_GROUPS = {
    "": ("", "memory.max", "memory.current", "inactive_file"),  # version 2
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),  # version 1
}


def available_memory(root: str | os.PathLike = "/") -> float:
    """Bytes that can be taken without swapping: the kernel gives up its cache of files for them.

    Args:
        root: Where `proc` and `sys` are.

    Returns:
        The least of what the host and the limits of this process's control groups leave; infinite on a system that
        tells neither.
    """
    root = pathlib.Path(root)
    return min(_of_host(root), *_of_control_groups(root))


def _of_host(root: pathlib.Path) -> float:
    found = _fields(root / "proc/meminfo").get("MemAvailable:")
    if found is not None:
        return 1024.0 * found
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))  # without the cache of files
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf, macOS not this name in it
        return float("inf")


def _of_control_groups(root: pathlib.Path) -> Iterator[float]:
    """What each limit leaves: that of the process's group, and those of the groups that hold it."""
    yield float("inf")
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in _CONTROL_GROUPS:
            continue
        mount, limit, used, cache = _CONTROL_GROUPS[controllers]
        top = root / "sys/fs/cgroup" / mount
        # In a container the path may be the host's, of which nothing but the mount itself is there.
        for group in (top / path.lstrip("/"), *(top / parent for parent in pathlib.PurePath(path.lstrip("/")).parents)):
            bytes_of = [_text(group / name).strip() for name in (limit, used)]
            if all(text.isdecimal() for text in bytes_of):  # not where the limit is "max"
                most, taken = map(int, bytes_of)
                yield float(most - taken + _fields(group / "memory.stat").get(cache, 0))


def _fields(path: pathlib.Path) -> dict[str, int]:
    """Lines of a name and a number."""
    words = (line.split() for line in _text(path).splitlines())
    return {first: int(second) for first, second, *_ in filter(lambda line: len(line) > 1, words) if second.isdecimal()}


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
