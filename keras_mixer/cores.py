"""Counts the CPU cores that this process may use, which can be fewer than the machine has."""

import os


def usable_cores() -> int:
    """Returns how many cores this process may run on, as `os.process_cpu_count` does from Python 3.13 on.

    Systems that do not tell (macOS, Windows) count all cores of the machine, or 1 if that is unknown too.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
