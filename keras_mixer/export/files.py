"""Folders of versions that appear whole or not at all, though someone may be reading where they are written."""

import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from keras_mixer.files import untouched_for_a_day

_SCRATCH = ".export-"


@contextmanager
def scratch_folder(base: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder in `base`, on the same file system, whose name no server takes for a version; gone at the end.

    Those of exports that were killed more than a day ago are removed before.
    """
    base.mkdir(parents=True, exist_ok=True)
    for stale in untouched_for_a_day(base, f"{_SCRATCH}*"):
        shutil.rmtree(stale, ignore_errors=True)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=base))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def published_as_next_version(complete: pathlib.Path, base: pathlib.Path) -> pathlib.Path:
    """Moves a complete folder to the next version number in `base`, in one step.

    Another process may take a number between the look and the move: the next one is tried then.
    """
    while True:
        target = base / str(max(versions(base), default=0) + 1)
        try:
            complete.rename(target)
        except OSError:
            if not target.exists():
                raise
        else:
            return target


def versions(base: pathlib.Path) -> list[int]:
    """The version numbers in a model's base folder, in order."""
    return sorted(int(entry.name) for entry in base.iterdir() if entry.name.isdecimal())
