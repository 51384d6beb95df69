"""Starts the frameworks of a sub-command without the notices that their libraries print while they load."""

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator


def start(*frameworks: str) -> None:
    """Imports `frameworks` in silence; what cannot be imported still raises.

    Raises:
        ImportError: If one is not installed, with the command that installs it.
    """
    with _silent_standard_error():
        for name in frameworks:
            try:
                importlib.import_module(name)
            except ImportError as error:
                raise ImportError(
                    f"This command needs {name} ({error}). Install it with `pip install 'keras_mixer[tensorflow]'`."
                ) from error


def require_tensorflow_backend(what: str) -> None:
    """Raises ValueError unless Keras computes by TensorFlow; `what` begins the message, as "Exporting"."""
    import keras

    backend = keras.config.backend()
    if backend != "tensorflow":
        raise ValueError(
            f"{what} needs KERAS_BACKEND=tensorflow, but it is {backend}. A model trained on another backend loads "
            "there as it is."
        )


@contextlib.contextmanager
def _silent_standard_error() -> Iterator[None]:
    """Sends what is written to the file descriptor, not only to `sys.stderr`, nowhere: the libraries are in C++."""
    sys.stderr.flush()
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
