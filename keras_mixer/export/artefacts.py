"""One call from a trained model to files for a server, a phone or another runtime, with a report of what each costs."""

import dataclasses
import importlib.util
import os
import pathlib
import shutil
from collections.abc import Callable, Sequence

import keras
import numpy as np

from keras_mixer.card import CARD_FILE
from keras_mixer.cores import usable_cores
from keras_mixer.data import DatasetSpec, ModelCard
from keras_mixer.evaluation import EvaluationSplit, keras_predictor, on_one_tensor, open_artefact
from keras_mixer.export.calibration import calibration_images
from keras_mixer.export.files import published_as_next_version, scratch_folder
from keras_mixer.export.formats import FORMATS
from keras_mixer.export.litert import export_litert
from keras_mixer.export.onnx import export_onnx, export_openvino
from keras_mixer.export.random_images import RandomImages
from keras_mixer.export.report import Report, measured
from keras_mixer.export.saved_model import check_card, export_saved_model

# No server takes it for a version.
WITHHELD = "withheld"


def export(
    model: keras.Model,
    card: ModelCard,
    folder: str | os.PathLike,
    formats: Sequence[str] = ("saved_model", "litert"),
    *,
    dataset: DatasetSpec | None = None,
    limit: int | None = None,
    corrupt_limit: int = 0,
    samples: np.ndarray | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Writes a model in several formats and measures each on the split that the model is evaluated on.

    Where neither `dataset` nor the card names one, the artefacts are compared with the model on random images: the
    report then has no accuracy, and no loss of it is a breach.

    `folder` is a model base path as TF Serving reads it: a SavedModel becomes its next numbered version. The other
    files lie beside the versions, where TF Serving passes over them, and replace those of an earlier export:
    `model.tflite`, `model_float16.tflite`, `model_dynamic_int8.tflite`, `model_int8.tflite`, `model.onnx`, `model.xml`
    with `model.bin`, and `model.json`, the card of all these files: where it changes, the files of an earlier export
    that this one does not replace are removed, for their classes may be others. `report.json` holds the report.

    Nothing appears in `folder` before it is measured. A SavedModel that loses more than it may, or whose scores are no
    numbers, becomes no version, which a server would load: it is put into `withheld`.

    Args:
        model: A trained functional model of one input and one output.
        card: Its class names, preprocessing and dataset.
        folder: Where the artefacts go, such as `saved_models/digits`.
        formats: Names in `keras_mixer.export.FORMATS`.
        dataset: Another split to measure on than the card's.
        limit: Measures on the first so many images alone.
        corrupt_limit: Number of images of the dataset that may be unreadable, and are left out.
        samples: Preprocessed images to calibrate int8 on; by default 200 of the training split.
        progress: Called with a line before each step.

    Returns:
        The report: `report.breaches` says what loses more than its format may.

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
    folder = pathlib.Path(os.path.abspath(folder))  # where the path is ".", only its absolute form has a name
    _check(formats)
    check_card(on_one_tensor(model), card)
    labelled = dataset or card.dataset
    split: EvaluationSplit | RandomImages = RandomImages(card, limit)
    if labelled:
        split = EvaluationSplit(card, dataset, limit=limit, corrupt_limit=corrupt_limit)
    if "litert_int8" in formats and samples is None:
        samples = calibration_images(card, dataset, corrupt_limit=corrupt_limit)
    with scratch_folder(folder) as scratch:
        # Of the folder's own name, by which the warm-up requests call the model.
        complete = scratch / folder.name
        paths = {}
        for name in dict.fromkeys(formats):
            progress(f"Writing {name}")
            paths[name] = _write(name, model, card, complete, samples)
        progress(f"Measuring on {split.num_examples:,} {'' if labelled else 'random '}images")
        artefacts = {name: open_artefact(path, threads=usable_cores()) for name, path in paths.items()}
        report = measured(card.name, keras_predictor(model), artefacts, split)
        return _published(report, paths, card, folder)


def _published(report: Report, paths: dict[str, pathlib.Path], card: ModelCard, folder: pathlib.Path) -> Report:
    """Moves measured artefacts into place: at no moment does a file lie beside the card of another model."""
    _make_way(card, folder)
    rows = list(report.rows)
    for place, row in enumerate(rows):
        if row.artefact == "saved_model":
            saved = paths[row.artefact]
            target = published_as_next_version(saved, folder) if row.within_limit else saved.rename(folder / WITHHELD)
            rows[place] = dataclasses.replace(row, file=target.name)
        elif row.artefact in paths:
            path = paths[row.artefact]
            for file in (path.with_suffix(".bin"), path):
                if file.exists():
                    file.replace(folder / file.name)
    report = dataclasses.replace(report, rows=tuple(rows))
    report.save(folder)
    card.save(folder / CARD_FILE)
    return report


def _make_way(card: ModelCard, folder: pathlib.Path) -> None:
    """Removes what was withheld before, and, unless they have this very card, the files of an earlier export."""
    shutil.rmtree(folder / WITHHELD, ignore_errors=True)
    try:
        unchanged = ModelCard.load(folder / CARD_FILE) == card
    except (OSError, ValueError):
        unchanged = False
    if not unchanged:
        files = [form.file for form in FORMATS.values() if form.file]
        # The card first: without it, what is left when this is interrupted opens as no classifier.
        for name in (CARD_FILE, *files, *(pathlib.Path(file).with_suffix(".bin").name for file in files)):
            (folder / name).unlink(missing_ok=True)


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
