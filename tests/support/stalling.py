"""An image whose reading stalls until the test says so: a named pipe, to stop a process in the midst of its work."""

import contextlib
import errno
import os
import pathlib
import time


def stalling_image(path: pathlib.Path) -> pathlib.Path:
    """Makes a pipe in place of an image."""
    os.mkfifo(path)
    return path


@contextlib.contextmanager
def reader_of(path: pathlib.Path):
    """Waits until a process reads the pipe, and gives its id; the process stays stalled for as long as the block."""
    writer = wait(lambda: _open(path))
    try:
        yield wait(lambda: _process_with(path))
    finally:
        os.close(writer)


def _open(path: pathlib.Path) -> int | None:
    try:
        return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ENXIO:  # nobody reads yet
            raise
        return None


def _process_with(path: pathlib.Path) -> int | None:
    for descriptor in pathlib.Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if descriptor.readlink() == path and int(descriptor.parts[2]) != os.getpid():
                return int(descriptor.parts[2])
    return None


def wait(look, seconds: float = 600.0):
    """Calls `look` until it returns something; for long, as a busy machine may take minutes to start a process."""
    end = time.monotonic() + seconds
    while (found := look()) is None:
        if time.monotonic() > end:
            raise TimeoutError(f"Nothing happened within {seconds} seconds.")
        time.sleep(0.02)
    return found
