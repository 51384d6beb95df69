"""The size, time and accuracy of each artefact of an export, compared with the Keras model."""

import dataclasses
import pathlib
import platform
from collections.abc import Mapping

import numpy as np

from keras_mixer.artefacts import FORMATS, Predictor
from keras_mixer.cores import usable_cores
from keras_mixer.evaluation import Accuracy, EvaluationSplit, Latency, measure, measure_latency
from keras_mixer.evaluation.samples import RandomImages
from keras_mixer.files import strict_json, written_whole
from keras_mixer.machine import processor, versions

REPORT_FILE = "report.json"
REFERENCE = "keras"
NOT_RUN, BY_DEFAULT = "not run here", "default precision"
_SHARED = ("top1", "top5", "agreement", "largest_score_difference", "largest_logit_difference", "not_finite")


@dataclasses.dataclass(frozen=True)
class Row:
    """The measurements of one artefact. Shares are from 0 to 1. Points are percentage points.

    Attributes:
        artefact: Its format, or "keras" for the model that it was made from.
        file: Its name in the model's folder; None for the Keras model.
        bytes: Its size in bytes; None for the Keras model.
        milliseconds: Median time of one call with the report's `batch_size` images; None if it was not run.
        images_per_second: The same as a rate; None if it was not run.
        top1: Share of the split's images whose label has the highest score; None if accuracy was not measured.
        top5: Share whose label is among the five highest scores; None if accuracy was not measured.
        agreement: Share of images with the same best class as the Keras model.
        largest_score_difference: Largest difference from the Keras model's scores, over the images to which both give
            finite scores; None if there are no such images.
        largest_logit_difference: The same for logits (see `keras_mixer.evaluation.Accuracy`).
        not_finite: Number of images with a score that is NaN or infinite.
        drop: Points of top-1 accuracy lost against the Keras model; None for that model, or if not measured.
        limit: Points that the format may lose.
        note: "not run here" for a format that this machine cannot run, "default precision" for a file that was run with
            its runtime's default settings, and None otherwise.
        min_runtime: Oldest version of the runtime that loads the file, if the file says it.
    """

    artefact: str
    file: str | None
    bytes: int | None
    milliseconds: float | None = None
    images_per_second: float | None = None
    top1: float | None = None
    top5: float | None = None
    agreement: float | None = None
    largest_score_difference: float | None = None
    largest_logit_difference: float | None = None
    not_finite: int = 0
    drop: float | None = None
    limit: float | None = None
    note: str | None = None
    min_runtime: str | None = None

    @property
    def within_limit(self) -> bool:
        """Whether all scores are finite and the loss of accuracy is within the limit."""
        return self.not_finite == 0 and (self.drop is None or self.limit is None or self.drop <= self.limit + 1e-9)


@dataclasses.dataclass(frozen=True)
class Report:
    """The measurements of an export.

    Attributes:
        model: Name of the model.
        dataset: Name of the dataset that it was measured on; None for random images, which have no accuracy.
        split: The dataset's split; None for random images.
        examples: Number of images measured.
        batch_size: Images per timed call.
        machine: The processor, and the versions of Python and of the runtimes.
        rows: The Keras model, then each artefact.
    """

    model: str
    dataset: str | None
    split: str | None
    examples: int
    machine: Mapping[str, str]
    rows: tuple[Row, ...]
    batch_size: int = 1

    @property
    def measured_on(self) -> str:
        """Describes the images, for a title."""
        if self.dataset is None:
            return f"compared on {self.examples:,} random images; accuracy was not measured"
        return f"measured on {self.examples:,} images of {self.dataset}, split {self.split}"

    @property
    def breaches(self) -> list[str]:
        """One line for each artefact that is not within its limit."""
        return [self._breach(row) for row in self.rows if not row.within_limit]

    def _breach(self, row: Row) -> str:
        what = f"{row.file or 'the model itself'} ({row.artefact})"
        if row.not_finite:  # its accuracy then means nothing
            return f"{what} gives scores that are not finite for {row.not_finite:,} of {self.examples:,} images."
        return f"{what} loses {row.drop:.2f} points of accuracy; its limit is {row.limit:g}."

    def save(self, folder: pathlib.Path) -> pathlib.Path:
        """Writes `report.json` into `folder`."""
        path = folder / REPORT_FILE
        with written_whole(path) as partial:
            partial.write_text(strict_json(dataclasses.asdict(self)) + "\n", encoding="utf-8")
        return path


def measured(
    model: str,
    reference: Predictor,
    paths: Mapping[str, pathlib.Path],
    split: EvaluationSplit | RandomImages,
    batch_size: int = 1,
) -> Report:
    """Measures artefacts, given as paths by format, against the Keras model that they were made from.

    Each timed call has `batch_size` images.

    Raises:
        ValueError: If the split holds no images, or an artefact has another number of classes.
    """
    predictors = {REFERENCE: reference}
    for name, path in paths.items():
        if FORMATS[name].open is not None:
            predictors[name] = FORMATS[name].opened(path, usable_cores())
        if (open_ := FORMATS[name].open_by_default) is not None:
            scores = open_(path, usable_cores())
            predictors[f"{name}, {BY_DEFAULT}"] = dataclasses.replace(predictors[name], scores=scores)
    accuracies = measure(predictors, split)
    first_images, _ = next(iter(split))
    latencies = measure_latency(predictors, np.resize(first_images, (batch_size, *first_images.shape[1:])))
    rows = []
    for key in dict.fromkeys([REFERENCE, *paths, *predictors]):
        name, _, note = key.partition(", ")
        row = Row(name, None, None, note=note or (None if key in predictors else NOT_RUN))
        if form := FORMATS.get(name):
            oldest = form.min_runtime(paths[name]) if form.min_runtime else None
            row = dataclasses.replace(row, file=paths[name].name, bytes=form.size(paths[name]), min_runtime=oldest)
        if key in predictors:
            row = _measured(row, accuracies[key], accuracies[REFERENCE], latencies[key])
        rows.append(row)
    rows.sort(key=lambda row: [REFERENCE, *paths].index(row.artefact))  # keeps the rows of a file together
    examples = accuracies[REFERENCE].examples
    if isinstance(split, EvaluationSplit):
        spec = split.source.spec
        return Report(model, spec.name, spec.split, examples, _machine(), tuple(rows), batch_size)
    rows = [dataclasses.replace(row, top1=None, top5=None, drop=None) for row in rows]
    return Report(model, None, None, examples, _machine(), tuple(rows), batch_size)


def _measured(row: Row, accuracy: Accuracy, reference: Accuracy, latency: Latency) -> Row:
    form = FORMATS.get(row.artefact)
    return dataclasses.replace(
        row,
        milliseconds=latency.milliseconds,
        images_per_second=latency.images_per_second,
        **{field: getattr(accuracy, field) for field in _SHARED},
        drop=100.0 * (reference.top1 - accuracy.top1) if form else None,
        limit=form.limit if form and not row.note else None,
    )


def _machine() -> dict[str, str]:
    runtimes = {"keras", "tensorflow", *(module for form in FORMATS.values() for module in form.needs)}
    return {"processor": processor(), "python": platform.python_version(), **versions(runtimes)}
