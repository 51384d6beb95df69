"""Writes files and folders atomically, even if a process is killed while it writes; and JSON for other programs."""

import contextlib
import glob
import json
import os
import pathlib
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PARTIAL = ".partial-"
_SCRATCH = ".export-"
_STALE = 24 * 3600  # seconds; a process that is still writing changes its file more often


@contextlib.contextmanager
def written_whole(path: str | os.PathLike, *, durable: bool = False) -> Iterator[pathlib.Path]:
    """Yields a partial file beside `path`, and moves it to `path` when the block ends without an error.

    The partial file has the suffix of `path`, because some writers choose the format by the suffix.

    Args:
        path: The final name. Its folder is created if needed. An existing file is replaced atomically.
        durable: Whether to flush the file and its name to disk, so that it survives a crash of the machine.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale_partial_files(path.parent, f"{PARTIAL}*-{glob.escape(path.name)}")
    partial = path.with_name(f"{PARTIAL}{os.getpid()}-{secrets.token_hex(4)}-{path.name}")
    try:
        yield partial
        if durable:
            _sync(partial)
        partial.replace(path)
        if durable and hasattr(os, "O_DIRECTORY"):  # other systems cannot open folders
            _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def held_alone(folder: str | os.PathLike) -> Iterator[None]:
    """Holds a folder, created if needed, for this process alone, until the block or the process ends.

    Where the system or the file system has no locks, any number of processes may hold it.

    Raises:
        ValueError: If another process holds the folder.
    """
    os.makedirs(folder, exist_ok=True)
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"Another process is writing to {folder}: let it end, or choose another folder.") from None
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(descriptor)


def strict_json(value) -> str:
    """Returns `value` as indented JSON for any program. NaN and infinity, which JSON lacks, become null.

    NumPy's arrays become lists, and objects that JSON lacks become text.
    """
    text = json.dumps(value, default=lambda other: other.tolist() if hasattr(other, "tolist") else str(other))
    return json.dumps(json.loads(text, parse_constant=lambda _: None), indent=2)


def remove_partial_files(folder: str | os.PathLike) -> None:
    """Removes the partial files in `folder`, but not in its subfolders. No other process may be writing to it."""
    for partial in pathlib.Path(folder).glob(f"{PARTIAL}*"):
        partial.unlink(missing_ok=True)


def remove_stale_partial_files(folder: pathlib.Path, pattern: str = f"{PARTIAL}*") -> None:
    """Removes files and folders that match `pattern` and have not changed for a day: a killed process left them.

    Those that cannot be removed, such as another user's, are left.
    """
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < time.time() - _STALE:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


@contextlib.contextmanager
def scratch_folder(base: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a temporary folder inside `base`, so that it is on the same file system, and removes it at the end.

    A model server ignores it, because its name is not a version. Folders that killed processes left more than a day ago
    are removed too.
    """
    base.mkdir(parents=True, exist_ok=True)
    remove_stale_partial_files(base, f"{_SCRATCH}*")
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=base))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
