"""ONNX files, and a check that the file of a Keras exporter computes the same as the model."""

import os
import pathlib
import warnings
from typing import TYPE_CHECKING

import numpy as np

from keras_mixer.artefacts.predictor import Scores, in_batches, in_float32, on_one_tensor
from keras_mixer.artefacts.record import Format, Open, check_suffix
from keras_mixer.files import written_whole

if TYPE_CHECKING:
    import keras

# Two runtimes sum products in different orders. Twelve blocks of float32 differ by far less than this.
TOLERANCE = 1e-3


def export_onnx(model: "keras.Model", path: str | os.PathLike) -> pathlib.Path:
    """Writes an ONNX file of any batch size.

    Keras's exporter reports success even if ONNX lacks an operation of the model, such as the error function of the
    exact GELU. This function therefore opens the file in ONNX Runtime and compares it with the model on random images.

    Args:
        model: A functional model of one input and one output.
        path: The file, ending in `.onnx`.

    Returns:
        The path.

    Raises:
        ValueError: If ONNX Runtime cannot load what was written, or its scores differ from the model's. No file is
            left.
        ImportError: If onnx, tf2onnx or onnxruntime is not installed.
    """
    path = pathlib.Path(path)
    check_suffix(path, ".onnx")
    ONNX.check_installed(to_write=True)
    with written_whole(path) as partial:
        export_checked(model, partial, "onnx", _open)
    return path


def export_checked(model: "keras.Model", path: pathlib.Path, kind: str, open_: Open) -> None:
    """Writes a file of Keras's format `kind`, and raises a ValueError unless it opens and gives the model's scores."""
    images = np.random.default_rng(0).uniform(-1, 1, (3, *model.input_shape[1:])).astype(np.float32)
    model = in_float32(on_one_tensor(model))
    expected = np.asarray(model(images, training=False))  # Keras exports only a model that has been called
    with warnings.catch_warnings():
        # Keras's patch that fits tf2onnx to NumPy 2 asks for names that NumPy has dropped.
        warnings.filterwarnings("ignore", message="In the future `np.object`", category=FutureWarning)
        model.export(str(path), format=kind, verbose=False)
    try:
        scores = open_(path, None)
    except Exception as error:  # the errors of runtimes share no public base class
        cause = str(error)
        if "Erfc" in cause:
            cause = "ONNX cannot hold the exact GELU as Keras writes it: build the model with gelu(approximate=True)."
        raise ValueError(f"The {kind} file is invalid and not kept. {cause}") from error
    for size in (3, 1):  # the second size fails if the file holds a fixed batch size
        difference = float(np.abs(scores(images[:size]) - expected[:size]).max())
        if not difference <= TOLERANCE:
            raise ValueError(f"The {kind} file loads, but its scores differ by {difference:.3g}: it is not kept.")


def _open(path: pathlib.Path, threads: int | None) -> Scores:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    batch = source.shape[0] if isinstance(source.shape[0], int) else None
    return in_batches(lambda images: session.run(None, {source.name: images.astype(np.float32, copy=False)})[0], batch)


ONNX = Format(
    "onnx",
    "model.onnx",
    write=lambda model, path, card, samples: export_onnx(model, path),
    open=_open,
    companions=("{name}.data",),  # the weights of large models
    needs=("onnxruntime",),
    needs_to_write=("onnx", "tf2onnx"),
    install='pip install "keras_mixer[onnx]"',
)
