"""OpenVINO: an `.xml` file with the weights in a `.bin` file beside it."""

import os
import pathlib
from typing import TYPE_CHECKING

from keras_mixer.artefacts.onnx import export_checked
from keras_mixer.artefacts.predictor import Scores
from keras_mixer.artefacts.record import Format, check_suffix
from keras_mixer.files import scratch_folder

if TYPE_CHECKING:
    import keras


def export_openvino(model: "keras.Model", path: str | os.PathLike) -> pathlib.Path:
    """Writes an OpenVINO model of any batch size: `path` and its weights beside it, with the suffix `.bin`.

    Args:
        model: A functional model of one input and one output.
        path: The file, ending in `.xml`.

    Returns:
        The path.

    Raises:
        ValueError: If OpenVINO cannot load what was written, or its scores differ from the model's. No file is left.
        ImportError: If openvino is not installed.
    """
    path = pathlib.Path(path)
    check_suffix(path, ".xml")
    OPENVINO.check_installed(to_write=True)
    with scratch_folder(path.parent) as scratch:
        complete = scratch / path.name
        export_checked(model, complete, "openvino", _open)
        complete.with_suffix(".bin").replace(path.with_suffix(".bin"))
        complete.replace(path)
    return path


def _open(path: pathlib.Path, threads: int | None) -> Scores:
    # Without this, OpenVINO computes in bfloat16 on a CPU that can.
    return _open_by_default(path, threads, INFERENCE_PRECISION_HINT="f32")


def _open_by_default(path: pathlib.Path, threads: int | None, **settings) -> Scores:
    import openvino

    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    return lambda images: compiled([images])[0]


OPENVINO = Format(
    "openvino",
    "model.xml",
    write=lambda model, path, card, samples: export_openvino(model, path),
    open=_open,
    companions=("{stem}.bin",),
    needs=("openvino",),
    install='pip install "keras_mixer[openvino]"',
    open_by_default=_open_by_default,
)
