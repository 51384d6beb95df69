"""Files that appear whole or not at all, though the process may be killed or someone be reading where it writes."""

import contextlib
import os
import pathlib
import secrets
from collections.abc import Iterator

_PARTIAL = ".partial-"


@contextlib.contextmanager
def written_whole(path: str | os.PathLike, *, durable: bool = False) -> Iterator[pathlib.Path]:
    """Gives a path to write to beside `path`, and moves the file there once the block ends without an error.

    Nothing is left of a block that fails. The partial file keeps the suffix of `path`, by which some writers choose
    their format, and no two writers share one. Who may read the file is as for any file that the process makes.

    Args:
        path: The final name; its folder is made if need be. A file of that name is replaced in one step.
        durable: Whether to force the file and its name to disk, so that it outlives a crash of the machine.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{_PARTIAL}{os.getpid()}-{secrets.token_hex(4)}-{path.name}")
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
    for partial in pathlib.Path(folder).glob(f"{_PARTIAL}*"):
        partial.unlink(missing_ok=True)


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
