"""Files that appear whole or not at all, even if the process is killed while it writes or another one is reading."""

import contextlib
import glob
import os
import pathlib
import secrets
import time
from collections.abc import Iterator

PARTIAL = ".partial-"
# Seconds after which a partial file counts as left over. A writer touches its file more often, so no lock is needed.
_STALE = 24 * 3600


@contextlib.contextmanager
def written_whole(path: str | os.PathLike, *, durable: bool = False) -> Iterator[pathlib.Path]:
    """Yields a path beside `path` to write to, and moves the file to `path` if the block ends without an error.

    A failed block leaves nothing behind. What a killed process left of the same file is removed after a day. The
    partial file keeps the suffix of `path`, because some writers choose their format by it.

    Args:
        path: The final name. Its folder is made if needed, and an existing file is replaced in one step.
        durable: Whether to force the file and its name to disk, so that they survive a crash of the machine.
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
        if durable and hasattr(os, "O_DIRECTORY"):  # other systems cannot open a folder
            _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def remove_partial_files(folder: str | os.PathLike) -> None:
    """Removes all partial files from `folder`. Call it only if nobody else is writing there.

    Args:
        folder: The folder, without the folders in it. It need not exist.
    """
    for partial in pathlib.Path(folder).glob(f"{PARTIAL}*"):
        partial.unlink(missing_ok=True)


def remove_stale_partial_files(folder: pathlib.Path, of: str | None = None) -> None:
    """Removes partial files from `folder` if nobody has written to them for a day.

    A file that cannot be removed, for example on a shared disk, stays.

    Args:
        folder: The folder. It need not exist.
        of: The final name of the files to remove; None for all.
    """
    for stale in untouched_for_a_day(folder, f"{PARTIAL}*" if of is None else f"{PARTIAL}*-{glob.escape(of)}"):
        with contextlib.suppress(OSError):
            stale.unlink()


def untouched_for_a_day(folder: pathlib.Path, pattern: str) -> list[pathlib.Path]:
    """Returns the paths in `folder` that match `pattern` and have not changed for a day."""
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
