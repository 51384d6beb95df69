"""One call from a trained model to files for a server, a phone or another runtime, with a report of what each costs."""

import importlib.util
import os
import pathlib
from collections.abc import Callable, Sequence

import keras
import numpy as np

from keras_mixer.data import DatasetSpec, ModelCard
from keras_mixer.evaluation import EvaluationSplit, keras_predictor, open_artefact
from keras_mixer.export.calibration import calibration_images
from keras_mixer.export.formats import FORMATS
from keras_mixer.export.litert import export_litert
from keras_mixer.export.onnx import export_onnx, export_openvino
from keras_mixer.export.report import Report, measured
from keras_mixer.export.saved_model import CARD_FILE, export_saved_model


def export(
    model: keras.Model,
    card: ModelCard,
    folder: str | os.PathLike,
    formats: Sequence[str] = ("saved_model", "litert"),
    *,
    dataset: DatasetSpec | None = None,
    limit: int | None = None,
    samples: np.ndarray | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Writes a model in several formats and measures each on the split that the model is evaluated on.

    `folder` is a model base path as TF Serving reads it: a SavedModel becomes its next numbered version. The other
    files lie beside the versions, where TF Serving passes over them, and replace those of an earlier export:
    `model.tflite`, `model_float16.tflite`, `model_dynamic_int8.tflite`, `model_int8.tflite`, `model.onnx`, `model.xml`
    with `model.bin`, and `model.json`, the model's card. `report.json` holds the report.

    Args:
        model: A trained functional model of one input and one output.
        card: Its class names, preprocessing and dataset.
        folder: Where the artefacts go, such as `saved_models/digits`.
        formats: Names in `keras_mixer.export.FORMATS`.
        dataset: Another split to measure on than the card's.
        limit: Measures on the first so many images alone.
        samples: Preprocessed images to calibrate int8 on; by default 200 of the training split.
        progress: Called with a line before each step.

    Returns:
        The report. Nothing is deleted because of it: `report.breaches` says what loses more than its format may.

    Raises:
        ValueError: If a format is unknown, the card does not fit, or the split cannot be read: before anything is
            written.
        ImportError: If a format's packages are not installed, naming the command: before anything is written.

    Example:
        >>> model, card = keras_mixer.data.load_model("runs/digits")
        >>> report = keras_mixer.export.export(model, card, "saved_models/digits", ["saved_model", "litert_int8"])
        >>> report.breaches
        []
    """
    folder = pathlib.Path(folder)
    _check(formats)
    split = EvaluationSplit(card, dataset, limit=limit)
    if "litert_int8" in formats and samples is None:
        samples = calibration_images(card, dataset)
    folder.mkdir(parents=True, exist_ok=True)
    card.save(folder / CARD_FILE)
    paths = {}
    for name in dict.fromkeys(formats):
        progress(f"Writing {name}")
        paths[name] = _write(name, model, card, folder, samples)
    progress(f"Measuring on {split.num_examples:,} images")
    threads = os.cpu_count()
    artefacts = {name: open_artefact(path, threads=threads) for name, path in paths.items()}
    report = measured(card.name, keras_predictor(model), artefacts, split, folder)
    report.save(folder)
    return report


def _check(formats: Sequence[str]) -> None:
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise ValueError(f"The formats are {', '.join(FORMATS)}, but got {', '.join(unknown) or 'none'}.")
    for name in formats:
        modules, command = FORMATS[name].needs
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        if missing:
            raise ImportError(f"The format {name} needs {', '.join(missing)}: {command}")


def _write(
    name: str, model: keras.Model, card: ModelCard, folder: pathlib.Path, samples: np.ndarray | None
) -> pathlib.Path:
    form = FORMATS[name]
    if name == "saved_model":
        return export_saved_model(model, folder, card)
    path = folder / form.file
    if form.litert_precision:
        return export_litert(
            model, path, precision=form.litert_precision, samples=None if samples is None else [samples]
        )
    return (export_onnx if name == "onnx" else export_openvino)(model, path)
