"""Runs a backend of Keras in a second process, because a process can have only one backend."""

import contextlib
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import threading
import time
import weakref
from typing import Any

import numpy as np

from keras_mixer.artefacts.predictor import Predictor
from keras_mixer.engines import backends

_KEPT_ERRORS = (ValueError, ImportError, OSError, MemoryError, RuntimeError)
# The process imports what this one would import, and not files that happen to be in the working folder.
_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[2:]; from keras_mixer.engines.worker import serve; serve(int(sys.argv[1]))"
)


class Worker:
    """A process whose Keras has a given backend. It ends with this object.

    Args:
        backend: "tensorflow", "jax" or "torch".
    """

    def __init__(self, backend: str):
        environment = {
            # Several processes share a GPU, so TensorFlow and JAX take its memory only as they need it.
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            **os.environ,
            "KERAS_BACKEND": backend,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            # The weights do not change, so TensorFlow lays them out once.
            "TF_ONEDNN_ASSUME_FROZEN_WEIGHTS": "1",
        }
        self._backend, self._lock = backend, threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM, str(os.getpid()), *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        self.close = weakref.finalize(self, _end, self._process)

    def ask(self, request: Any) -> Any:
        """Sends a request and returns the answer. An interruption ends the process, whose answer would come too late.

        Raises:
            ValueError, ImportError, OSError, MemoryError: If the process raised one of these.
            RuntimeError: If the process raised another error, or has ended.
        """
        with self._lock:
            if not self.close.alive:
                raise RuntimeError(f"The process of Keras's backend {self._backend} was ended: open the model again.")
            try:
                pickle.dump(request, self._process.stdin, protocol=5)  # type: ignore[arg-type]
                self._process.stdin.flush()  # type: ignore[union-attr]
                kind, answer = pickle.load(self._process.stdout)  # type: ignore[arg-type]
            except (BrokenPipeError, EOFError, pickle.UnpicklingError) as cause:
                self.close()
                raise RuntimeError(
                    f"The process of Keras's backend {self._backend} ended with the exit status "
                    f"{self._process.returncode}. Status -9 usually means that memory was full: use smaller batches or "
                    "another engine. Open the model again to go on."
                ) from cause
            except BaseException:
                self.close()
                raise
        if kind is not None:
            raise kind(answer)
        return answer


def _end(process: subprocess.Popen) -> None:
    """Ends a process. It has some seconds to remove its temporary files."""
    process.terminate()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):  # a request that was not read
            pipe.close()  # type: ignore[union-attr]


def predictor_of(backend: str, path: pathlib.Path, precision: str) -> Predictor:
    """Opens a `.keras` file as `backends.predictor_of` does, in a second process."""
    worker = Worker(backend)
    try:
        accelerated = worker.ask(("open", (path, precision)))
    except BaseException:
        worker.close()
        raise
    return Predictor(backend, lambda images: worker.ask(("scores", (images,))), path, accelerated=accelerated)


def convert(path: pathlib.Path, form: str, target: pathlib.Path, samples: np.ndarray | None) -> str | None:
    """Writes a `.keras` file in another format as `backends.write` does, in a second process."""
    worker = Worker("tensorflow")
    try:
        return worker.ask(("convert", (path, form, target, samples)))
    finally:
        worker.close()


def _end_with(parent: int) -> None:
    """Ends this process when its parent has ended, also in the middle of a computation."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)  # as in `_end`
    os._exit(1)


def serve(parent: int) -> None:
    """Reads pickled requests from standard input and writes answers to standard output.

    Returns when the input ends. The process also ends when its parent, given by its number, has ended.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that temporary files are removed
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits for the answer
    if os.name == "posix":
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries that print must not disturb the answers
    kind: type[Exception] | None
    functions: dict = {"convert": backends.write}

    def start(path, precision) -> bool:
        opened = backends.predictor_of(path, precision)
        functions["scores"] = opened.scores
        return opened.accelerated

    functions["open"] = start
    while True:
        try:
            name, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            kind, answer = None, functions[name](*arguments)
        except Exception as error:
            # Only built-in classes, because the other process may lack others.
            kind = next((kind for kind in _KEPT_ERRORS if isinstance(error, kind)), None)
            kind, answer = (kind, str(error)) if kind else (RuntimeError, f"{type(error).__name__}: {error}")
        pickle.dump((kind, answer), answers, protocol=5)
        answers.flush()
