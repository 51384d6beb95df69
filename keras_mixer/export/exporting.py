"""Exports a trained model for servers, phones and other runtimes, and reports accuracy, size and speed of each file."""

import dataclasses
import os
import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_mixer.artefacts import FORMATS, keras_predictor, on_one_tensor
from keras_mixer.artefacts.saved_model import check_card_fits, published_as_next_version
from keras_mixer.card import CARD_FILE, ModelCard
from keras_mixer.dataset import DatasetSpec
from keras_mixer.evaluation import EvaluationSplit
from keras_mixer.evaluation.samples import RandomImages, calibration_images
from keras_mixer.export.report import BY_DEFAULT, REPORT_FILE, Report, measured
from keras_mixer.files import scratch_folder
from keras_mixer.images import MAX_PIXELS

if TYPE_CHECKING:
    import keras

WITHHELD = "withheld"  # not a number, so servers do not load it as a version


def export(
    model: "keras.Model",
    card: ModelCard,
    folder: str | os.PathLike,
    formats: Sequence[str] = ("saved_model", "litert"),
    *,
    dataset: DatasetSpec | None = None,
    limit: int | None = None,
    corrupt_limit: int = 0,
    samples: np.ndarray | None = None,
    max_pixels: int = MAX_PIXELS,
    webp: bool = False,
    litert_batch: int = 1,
    runtime: str | os.PathLike | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Writes a model in several formats and measures each file on the model's evaluation split.

    If neither `dataset` nor the card names a split, the artefacts are compared with the model on random images. The
    report then has no accuracy. A format that this machine cannot run is written, and reported as "not run here".

    `folder` is a model base path as TF Serving reads it. A SavedModel becomes the next numbered version in it. Other
    files, such as `model.tflite` and `model.onnx`, are written beside the versions and replace those of an earlier
    export. `model.json` is the card of all these files. If it changes, files of an earlier export that are not replaced
    are removed, because their classes may differ. `report.json` holds the report. Without it, `folder` must not hold a
    file of the same name as one that is written, because no export wrote that file.

    Everything is measured before it appears in `folder`. If a SavedModel loses more accuracy than its format allows, or
    returns scores that are not finite, it goes to `withheld`, where servers do not load it.

    Args:
        model: A trained functional model of one input and one output.
        card: Its class names, preprocessing and dataset.
        folder: Where the artefacts go, such as `saved_models/digits`.
        formats: Names in `keras_mixer.export.FORMATS`.
        dataset: A split to measure on instead of the card's.
        limit: Number of images to measure on, from the start of the split; None takes all.
        corrupt_limit: Number of images of the dataset that may be unreadable. They are left out.
        max_pixels: Largest number of pixels (height x width) of an image, in the dataset and in what a SavedModel
            decodes.
        webp: Whether a SavedModel decodes WebP images too. TensorFlow 2.19 and older then cannot load it.
        litert_batch: Images per call of a LiteRT file. Timed calls of all formats have this size. MediaPipe takes only
            files of one image per call.
        runtime: A folder with LiteRT.js for the format "web"; see `keras_mixer.export.export_web`.
        samples: Preprocessed images that calibrate int8; by default 200 of the training split.
        progress: Called with a line of text before each step.

    Returns:
        The report. `report.breaches` lists the artefacts that lose more accuracy than their format allows.

    Raises:
        ValueError: If a format is unknown, the card does not fit, the split cannot be read, or `folder` holds files
            that no export wrote. No file is written.
        ImportError: If a format's packages are not installed. The message names the command. No file is written.
        OSError: If LiteRT.js is not in the cache and cannot be downloaded. No file is written.

    Example:
        >>> model, card = keras_mixer.data.load_model("runs/digits")
        >>> report = keras_mixer.export.export(model, card, "saved_models/digits", ["saved_model", "litert"])
        >>> report.breaches
        []
    """
    folder = pathlib.Path(os.path.abspath(os.path.expanduser(folder)))  # "." has a name only as an absolute path
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise ValueError(f"The formats are {', '.join(FORMATS)}, but got {', '.join(unknown) or 'none'}.")
    for name in formats:
        FORMATS[name].check_installed(to_write=True)
    _refuse_foreign_files(folder, formats)
    check_card_fits(on_one_tensor(model), card)
    labelled = dataset or card.dataset
    split: EvaluationSplit | RandomImages = RandomImages(card, limit)
    if labelled:
        split = EvaluationSplit(card, dataset, limit=limit, corrupt_limit=corrupt_limit, max_pixels=max_pixels)
    if samples is None and any(FORMATS[name].calibrated for name in formats):
        samples = calibration_images(card, dataset, corrupt_limit=corrupt_limit, max_pixels=max_pixels)
    settings = {"max_pixels": max_pixels, "webp": webp, "batch_size": litert_batch, "runtime": runtime}
    with scratch_folder(folder) as scratch:
        complete = scratch / folder.name  # the warm-up requests call the model by the folder's name
        complete.mkdir()
        paths = {}
        for name in dict.fromkeys(formats):
            progress(f"Writing {name}")
            form = FORMATS[name]
            chosen = {setting: settings[setting] for setting in form.settings}
            paths[name] = form.write(model, complete / form.file, card, samples, **chosen)
        progress(f"Measuring on {split.num_examples:,} {'' if labelled else 'random '}images")
        report = measured(card.name, keras_predictor(model), paths, split, litert_batch)
        return _published(report, paths, card, folder)


def _published(report: Report, paths: dict[str, pathlib.Path], card: ModelCard, folder: pathlib.Path) -> Report:
    """Moves measured artefacts into place. A file is never beside the card of another model."""
    if (folder / REPORT_FILE).exists():
        _make_way(card, folder)
    report.save(folder)  # first, so that what an interruption leaves is known as an export's
    rows = list(report.rows)
    for index, row in enumerate(rows):
        if row.artefact not in paths or row.note == BY_DEFAULT:  # the Keras model, or a file that another row moves
            continue
        form, path = FORMATS[row.artefact], paths[row.artefact]
        if form.file:
            new = {part.name: part for part in reversed(form.parts(path))}
            for old in form.parts(folder / form.file):
                if old.is_dir() or old.name not in new:  # a folder cannot be replaced atomically
                    _remove(old)
            for name, part in new.items():
                part.replace(folder / name)
        else:
            target = published_as_next_version(path, folder) if row.within_limit else path.rename(folder / WITHHELD)
            rows[index] = dataclasses.replace(row, file=target.name)
    report = dataclasses.replace(report, rows=tuple(rows))
    report.save(folder)
    card.save(folder / CARD_FILE)
    return report


def _refuse_foreign_files(folder: pathlib.Path, formats: Sequence[str]) -> None:
    """Raises ValueError if an export to a folder without a report would replace files."""
    if (folder / REPORT_FILE).exists():
        return
    forms = [FORMATS[name] for name in formats if FORMATS[name].file]
    targets = [folder / CARD_FILE, folder / WITHHELD]
    targets += [part for form in forms for part in form.parts(folder / form.file)]
    found = [path.name for path in targets if path.exists()]
    if found:
        raise ValueError(
            f"{folder} holds {', '.join(found)} but no {REPORT_FILE}, so no export wrote that, and this one would "
            f"replace it: choose another folder (--output, --name)."
        )


def _make_way(card: ModelCard, folder: pathlib.Path) -> None:
    """Removes withheld SavedModels, and the files of an earlier export unless their card is the same."""
    shutil.rmtree(folder / WITHHELD, ignore_errors=True)
    try:
        if ModelCard.load(folder / CARD_FILE) == card:
            return
    except (OSError, ValueError):
        pass
    # The card is removed first. Without it, files left by an interruption cannot be opened as classifiers.
    (folder / CARD_FILE).unlink(missing_ok=True)
    for form in FORMATS.values():
        for part in form.parts(folder / form.file) if form.file else ():
            _remove(part)


def _remove(path: pathlib.Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
