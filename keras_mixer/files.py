"""Files that appear whole or not at all, though the process may be killed or someone be reading where it writes."""

import contextlib
import glob
import os
import pathlib
import secrets
import time
from collections.abc import Iterator

PARTIAL = ".partial-"
_STALE = 24 * 3600  # seconds; who writes touches the file more often, so that no lock is needed


@contextlib.contextmanager
def written_whole(path: str | os.PathLike, *, durable: bool = False) -> Iterator[pathlib.Path]:
    """Gives a path to write to beside `path`, and moves the file there once the block ends without an error.

    Nothing is left of a block that fails; what a killed process left of the same file is removed after a day. The
    partial file keeps the suffix of `path`, by which some writers choose their format, and no two writers share one.
    Who may read the file is as for any file that the process makes.

    Args:
        path: The final name; its folder is made if need be. A file of that name is replaced in one step.
        durable: Whether to force the file and its name to disk, so that it outlives a crash of the machine.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale_partial_files(path.parent, of=path.name)
    partial = path.with_name(f"{PARTIAL}{os.getpid()}-{secrets.token_hex(4)}-{path.name}")
    try:
        yield partial
        if durable:
            _sync(partial)
        partial.replace(path)
        if durable and hasattr(os, "O_DIRECTORY"):  # elsewhere folders cannot be opened
            _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def remove_partial_files(folder: str | os.PathLike) -> None:
    """Removes what processes that were killed while they wrote left in `folder`, in which nobody else may be writing.

    Args:
        folder: The folder, not those in it; it need not exist.
    """
    for partial in pathlib.Path(folder).glob(f"{PARTIAL}*"):
        partial.unlink(missing_ok=True)


def remove_stale_partial_files(folder: pathlib.Path, of: str | None = None) -> None:
    """Removes the partial files in `folder` that nobody has written to for a day; others may be in use.

    They only take room: what cannot be removed, as from a shared folder, stays.

    Args:
        folder: The folder; it need not exist.
        of: The final name of those to remove; None for all.
    """
    for stale in untouched_for_a_day(folder, f"{PARTIAL}*" if of is None else f"{PARTIAL}*-{glob.escape(of)}"):
        with contextlib.suppress(OSError):
            stale.unlink()


def untouched_for_a_day(folder: pathlib.Path, pattern: str) -> list[pathlib.Path]:
    """What `pattern` finds in `folder` and nobody has changed for a day: left by a process that was killed."""
    found = []
    for path in folder.glob(pattern):
        with contextlib.suppress(FileNotFoundError):  # another process may remove it too
            if path.stat().st_mtime < time.time() - _STALE:
                found.append(path)
    return found


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
