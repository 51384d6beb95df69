"""OpenVINO: an `.xml` file with the weights in a `.bin` file beside it, in float32 or quantised to int8."""

import contextlib
import dataclasses
import functools
import logging
import os
import pathlib
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from keras_mixer import wire
from keras_mixer.artefacts.onnx import export_checked
from keras_mixer.artefacts.predictor import Scores
from keras_mixer.artefacts.record import Format, check_suffix
from keras_mixer.card import ModelCard
from keras_mixer.files import scratch_folder

if TYPE_CHECKING:
    import keras


_log = logging.getLogger(__name__)

_CARD = ["keras_mixer", "card"]  # its place in `rt_info`


@functools.cache
def _core():
    """Returns the one `openvino.Core` of this process, which never ends.

    Each core sets the stack on which signals are handled, and frees it at its end. If cores end in another order than
    the reverse of their beginning, that leaves a freed stack, and Ctrl-C then ends the process with a segmentation
    fault (OpenVINO 2026.4).
    """
    import openvino

    return openvino.Core()


def export_openvino(
    model: "keras.Model",
    path: str | os.PathLike,
    *,
    samples: Iterable[np.ndarray] | None = None,
    card: ModelCard | None = None,
) -> pathlib.Path:
    """Writes an OpenVINO model for any batch size. The weights go beside `path`, into a file with the suffix `.bin`.

    Args:
        model: A functional model of one input and one output.
        path: The file, ending in `.xml`.
        samples: Batches of preprocessed images `(n, height, width, channels)` that are typical of the model's inputs.
            Matrix products are then int8, with scales computed from these images. None writes float32. One or two
            hundred images are enough.
        card: The model's card. The `rt_info` of the file then contains the card, and class names and normalisation
            under the names that OpenVINO's Model API uses.

    Returns:
        The path.

    Raises:
        ValueError: If OpenVINO cannot load the file, or its scores differ from the model's. The file is then deleted.
        ImportError: If openvino is not installed, or nncf for int8.
    """
    import keras

    path = pathlib.Path(path)
    check_suffix(path, ".xml")
    (OPENVINO if samples is None else OPENVINO_INT8).check_installed(to_write=True)
    with scratch_folder(path.parent) as scratch:
        complete = scratch / path.name
        export_checked(model, complete, "openvino", _open, None if keras.backend.backend() == "torch" else _convert)
        if samples is not None:
            complete = _quantized(complete, scratch / "quantized" / path.name, samples)
        if card is not None:
            described = scratch / "described" / path.name
            described.parent.mkdir()
            _describe(complete, described, card)
            complete = described
        complete.with_suffix(".bin").replace(path.with_suffix(".bin"))
        complete.replace(path)
    return path


def _convert(model: "keras.Model", path: pathlib.Path) -> None:
    """Converts a SavedModel. Keras converts a function in memory, which OpenVINO cannot on Python 3.13."""
    import openvino

    folder = path.with_suffix("")
    model.export(folder, verbose=False)
    openvino.serialize(openvino.convert_model(folder), path)


def _quantized(path: pathlib.Path, quantized: pathlib.Path, samples: Iterable[np.ndarray]) -> pathlib.Path:
    """Writes the int8 form of a model. Scales are measured on the samples, one image at a time."""
    import openvino

    kind = logging.getLoggerClass()
    import nncf

    logging.setLoggerClass(kind)  # which nncf replaces for the whole process
    images = [image[np.newaxis] for batch in samples for image in np.asarray(batch, np.float32)]
    logging.getLogger("nncf").setLevel(logging.ERROR)  # nncf's own function changes the handlers of all loggers
    # Sums of products of 8 bits overflow 16 bits on CPUs without VNNI, unless the weights use 7 bits.
    overflow = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE)
    with contextlib.redirect_stdout(sys.stderr):  # its progress bars
        model = nncf.quantize(
            _core().read_model(path),
            nncf.Dataset(images),
            subset_size=len(images),
            advanced_parameters=overflow,
        )
    quantized.parent.mkdir()
    openvino.serialize(model, quantized)
    return quantized


def _describe(path: pathlib.Path, described: pathlib.Path, card: ModelCard) -> None:
    """Copies a model and adds its card, and the names of its input and output."""
    import openvino

    model, preprocessing = _core().read_model(path), card.preprocessing
    model.inputs[0].tensor.set_names({wire.IMAGES})
    model.outputs[0].tensor.set_names({wire.SCORES})
    facts = {
        "model_type": "Classification",
        "labels": " ".join("_".join(name.split()) for name in card.class_names),
        "mean_values": _on_255(preprocessing.mean, preprocessing.channels),
        "scale_values": _on_255(preprocessing.std, preprocessing.channels),
    }
    for name, value in facts.items():
        model.set_rt_info(value, ["model_info", name])
    model.set_rt_info(card.for_others().to_json(), _CARD)
    openvino.serialize(model, described)


def _on_255(value: float | tuple[float, ...], channels: int) -> str:
    return " ".join(f"{255 * each:.7g}" for each in (value if isinstance(value, tuple) else (value,) * channels))


def _embedded_card(path: pathlib.Path) -> str | None:
    model = _core().read_model(path)
    return model.get_rt_info(_CARD).astype(str) if model.has_rt_info(_CARD) else None


def _open(path: pathlib.Path, threads: int | None) -> Scores:
    # Without this setting, OpenVINO computes in bfloat16 on CPUs that support it.
    return _open_by_default(path, threads, INFERENCE_PRECISION_HINT="f32")


def open_in_bfloat16(path: pathlib.Path, threads: int | None) -> Scores:
    """Opens a file, or an ONNX file, to compute in bfloat16. On CPUs that cannot, logs a warning and takes float32."""
    if "BF16" not in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        _log.warning("This CPU lacks bfloat16, so OpenVINO computes in float32.")
    return _open_by_default(path, threads, INFERENCE_PRECISION_HINT="bf16")


def _open_by_default(path: pathlib.Path, threads: int | None, **settings) -> Scores:
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    compiled = _core().compile_model(str(path), "CPU", settings)
    return lambda images: compiled([images])[0]


OPENVINO = Format(
    "openvino",
    "model.xml",
    write=lambda model, path, card, samples: export_openvino(model, path, card=card),
    open=_open,
    companions=("{stem}.bin",),
    needs=("openvino",),
    install='pip install "keras_mixer[openvino]"',
    open_by_default=_open_by_default,
    embedded_card=_embedded_card,
)
OPENVINO_INT8 = dataclasses.replace(
    OPENVINO,
    name="openvino_int8",
    file="model_int8.xml",
    write=lambda model, path, card, samples: export_openvino(model, path, samples=[samples], card=card),
    limit=0.5,
    calibrated=True,
    needs_to_write=("nncf",),
)
