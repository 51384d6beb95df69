"""How many CPU cores this process may use, which can be fewer than the machine has."""

import os


def usable_cores() -> int:
    """What `os.process_cpu_count` gives from Python 3.13 on: the cores that this process may be scheduled on.

    Where a system does not tell (macOS, Windows), all that the machine has; 1 where even that is unknown.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
