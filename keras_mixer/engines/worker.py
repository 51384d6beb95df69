"""A process of its own for a backend of Keras, because a process can have only one.

`python -m keras_mixer.engines.worker` reads pickled requests from standard input and writes answers to standard output.
It ends when its input does.
"""

import os
import pathlib
import pickle
import subprocess
import sys
import threading
import weakref
from typing import Any

import numpy as np

from keras_mixer.artefacts.predictor import Scores
from keras_mixer.engines import backends

_PARENT = pathlib.Path(__file__).parents[2]  # holds keras_mixer


class Worker:
    """A process whose Keras has a given backend. It ends with this object."""

    def __init__(self, backend: str):
        environment = os.environ | {
            "KERAS_BACKEND": backend,
            "PYTHONPATH": os.pathsep.join([str(_PARENT), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            # The weights do not change, so TensorFlow lays them out once.
            "TF_ONEDNN_ASSUME_FROZEN_WEIGHTS": "1",
        }
        self._backend, self._lock = backend, threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        self.close = weakref.finalize(self, _end, self._process)

    def ask(self, request: Any) -> Any:
        """Sends a request and returns the answer.

        Raises:
            ValueError: If the process reports bad input.
            ImportError: If the process lacks a package.
            RuntimeError: If it reports another fault, or has ended.
        """
        with self._lock:
            try:
                pickle.dump(request, self._process.stdin, protocol=5)  # type: ignore[arg-type]
                self._process.stdin.flush()  # type: ignore[union-attr]
                kind, answer = pickle.load(self._process.stdout)  # type: ignore[arg-type]
            except (OSError, EOFError, pickle.UnpicklingError) as error:
                raise RuntimeError(f"The process of Keras's backend {self._backend} ended: {error}.") from error
        if kind is None:
            return answer
        raise {"ValueError": ValueError, "ImportError": ImportError}.get(kind, RuntimeError)(answer)


def _end(process: subprocess.Popen) -> None:
    for pipe in (process.stdin, process.stdout):
        pipe.close()  # type: ignore[union-attr]
    process.kill()
    process.wait()


def scores_of(backend: str, path: pathlib.Path, precision: str) -> Scores:
    """Opens a `.keras` file in a process of its own; returns its scores as a function of images."""
    worker = Worker(backend)
    worker.ask(("open", (path, precision)))
    return lambda images: worker.ask(("scores", (np.ascontiguousarray(images, np.float32),)))


def convert(path: pathlib.Path, form: str, target: pathlib.Path, samples: np.ndarray | None) -> None:
    """Writes a `.keras` file in another format, in a process whose Keras runs on TensorFlow."""
    worker = Worker("tensorflow")
    try:
        worker.ask(("convert", (path, form, target, samples)))
    finally:
        worker.close()


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries that print must not disturb the answers
    functions: dict = {"convert": backends.write}

    def start(path, precision) -> None:
        functions["scores"] = backends.scores_of(path, precision)

    functions["open"] = start
    while True:
        try:
            name, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            kind, answer = None, functions[name](*arguments)
        except Exception as error:
            same = next((kind for kind in (ValueError, ImportError) if isinstance(error, kind)), type(error))
            kind, answer = same.__name__, str(error)
        pickle.dump((kind, answer), answers, protocol=5)
        answers.flush()


if __name__ == "__main__":
    _serve()
