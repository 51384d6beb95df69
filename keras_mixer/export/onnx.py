"""A Keras model as ONNX or OpenVINO, opened again in its runtime and compared before it is said to work."""

import os
import pathlib
import tempfile
import warnings

import keras
import numpy as np

from keras_mixer.evaluation import on_one_tensor, open_artefact
from keras_mixer.export.precision import in_float32
from keras_mixer.files import written_whole

# Two runtimes sum products in different orders; twelve blocks of float32 stay well below this.
TOLERANCE = 1e-3


def export_onnx(model: keras.Model, path: str | os.PathLike) -> pathlib.Path:
    """Writes an ONNX file of any batch size.

    Keras's exporter reports success although ONNX lacks an operation of the model, such as the error function of the
    exact form of GELU: the file is therefore opened in ONNX Runtime and compared with the model on random images.

    Args:
        model: A functional model of one input and one output.
        path: The file, ending in `.onnx`.

    Returns:
        The path.

    Raises:
        ValueError: If ONNX Runtime cannot load what was written, or its scores differ; no file is left then.
        ImportError: If onnx, tf2onnx or onnxruntime is not installed.
    """
    path = pathlib.Path(path)
    _require(path, ".onnx")
    with written_whole(path) as partial:
        _export(model, partial, "onnx")
    return path


def export_openvino(model: keras.Model, path: str | os.PathLike) -> pathlib.Path:
    """Writes an OpenVINO model of any batch size: `path` and its weights beside it, with the suffix `.bin`.

    Args:
        model: A functional model of one input and one output.
        path: The file, ending in `.xml`.

    Returns:
        The path.

    Raises:
        ValueError: If OpenVINO cannot load what was written, or its scores differ; no file is left then.
        ImportError: If openvino is not installed.
    """
    path = pathlib.Path(path)
    _require(path, ".xml")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
        complete = pathlib.Path(folder) / path.name
        _export(model, complete, "openvino")
        complete.with_suffix(".bin").replace(path.with_suffix(".bin"))
        complete.replace(path)
    return path


def _require(path: pathlib.Path, suffix: str) -> None:
    if path.suffix != suffix:
        raise ValueError(f"The file's name must end in {suffix}, but got {path.name!r}.")


def _export(model: keras.Model, path: pathlib.Path, format_: str) -> None:
    """Writes the file and compares it with the model, in batches of two sizes."""
    images = np.random.default_rng(0).uniform(-1, 1, (3, *model.input_shape[1:])).astype(np.float32)
    model = in_float32(on_one_tensor(model))
    expected = np.asarray(model(images, training=False))  # Keras exports no model that has never been called
    with warnings.catch_warnings():
        # Keras's patch that fits tf2onnx to NumPy 2 asks for names that NumPy has dropped.
        warnings.filterwarnings("ignore", message="In the future `np.object`", category=FutureWarning)
        model.export(str(path), format=format_, verbose=False)
    try:
        predictor = open_artefact(path)
    except ValueError as error:
        raise ValueError(f"The {format_} file is invalid and not kept. {_cause(str(error))}") from error
    for size in (3, 1):  # a batch size that was frozen into the file shows at the second one
        found = predictor.scores(images[:size])
        difference = float(np.abs(found - expected[:size]).max())
        if not difference <= TOLERANCE:
            raise ValueError(f"The {format_} file loads, but its scores differ by {difference:.3g}: it is not kept.")


def _cause(message: str) -> str:
    if "Erfc" in message:
        return "ONNX has no form of the exact GELU as Keras writes it: build the model with gelu(approximate=True)."
    return message
