"""Opens a model by the engine that is asked for, or by the fastest, which is measured once and remembered."""

import dataclasses
import functools
import hashlib
import json
import logging
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from keras_mixer import machine
from keras_mixer.artefacts.predictor import Predictor
from keras_mixer.cores import usable_cores
from keras_mixer.engines.conversion import StoredModel, cache_folder, converted, source_of, versions_for
from keras_mixer.engines.table import ENGINES, PRECISIONS, Engine
from keras_mixer.evaluation.throughput import fastest
from keras_mixer.files import written_whole
from keras_mixer.shapes import positive_integer

if TYPE_CHECKING:
    import keras

AUTO = "auto"
_SECONDS, _BATCH_SIZE = 2.0, 8  # of a measurement

_log = logging.getLogger(__name__)


def open_engine(
    model: "keras.Model | str | os.PathLike",
    engine: str = AUTO,
    precision: str = "float32",
    *,
    batch_size: int = _BATCH_SIZE,
    samples: np.ndarray | None = None,
) -> Predictor:
    """Opens a classifier to be run by an engine.

    The engines "tensorflow", "jax" and "torch" run a Keras model on that backend of Keras. If this process has another
    backend, a second process runs the model. "openvino", "litert" and "onnxruntime" run exported files. A Keras model
    is converted for them once, and the package's cache folder keeps the file.

    The engine "auto" starts every installed engine and measures it for about two seconds. It logs its choice and
    remembers it in the cache folder. A change of the machine, of an installed version, of the model's layers, of
    `precision` or of `batch_size` leads to a new measurement.

    Args:
        model: A run folder, a `.keras` file, an exported file or folder, or a functional `keras.Model`.
        engine: A key of `ENGINES`, or "auto".
        precision: "float32"; "bfloat16", in which weights and activations have 8 bits of precision; or "int8", in which
            matrix products have 8 bits. OpenVINO computes in float32 on CPUs that lack bfloat16, and logs a warning. An
            exported file cannot be made more precise than it is: "float32" then runs it as it is.
        batch_size: Images per call that "auto" measures with, at most 8.
        samples: For "int8", preprocessed images `(n, height, width, channels)` that are typical of the model's inputs.
            None takes 200 images of the training split that the model's card names. Without either, LiteRT computes the
            scales of activations for each image.

    Returns:
        The classifier. Its `format` is the engine's name.

    Raises:
        ValueError: If there is no model at the path, or the engine (for "auto": every installed engine) cannot run it
            at this precision, `samples` do not fit it, or `batch_size` is below 1.
        ImportError: If the engine is not installed.
        RuntimeError: If the engine fails.

    Example:
        >>> predictor = keras_mixer.engines.open_engine("runs/digits", engine="openvino", precision="float32")
        >>> predictor.scores(np.zeros((2, 8, 8, 1), "float32")).shape
        (2, 10)
    """
    if precision not in PRECISIONS:
        raise ValueError(f"`precision` is one of {', '.join(PRECISIONS)}, but got {precision!r}.")
    if engine != AUTO and engine not in ENGINES:
        raise ValueError(f"`engine` is {AUTO} or one of {', '.join(ENGINES)}, but got {engine!r}.")
    batch_size = positive_integer("batch_size", batch_size)
    source = source_of(model)
    samples = None if samples is None else np.asarray(samples, np.float32)
    if samples is not None and (samples.shape[1:] != source.input_shape or not len(samples)):
        raise ValueError(
            f"`samples` is an array of preprocessed images of shape (n, {', '.join(map(str, source.input_shape))}), "
            f"but got one of shape {samples.shape}."
        )
    if engine != AUTO:
        ENGINES[engine].check_installed()
        return _opened(ENGINES[engine], source, precision, samples)
    able = [one for one in ENGINES.values() if one.formats(source.form.name, precision) and one.is_installed]
    if len(able) == 1:
        _log.info("Engine: %s, the only one that is installed and runs the model.", able[0].name)
        return _opened(able[0], source, precision, samples)
    if not able and precision == "float32":  # a format of the user's own
        return source.form.opened(source.path)
    if not able:
        raise ValueError(_unable("What is installed", source, precision))
    batch_size = min(batch_size, _BATCH_SIZE)
    remembered = _RememberedChoice(able, source, precision, batch_size)
    known = remembered.choice()
    for one in [one for one in able if one.name == known]:
        try:
            predictor = _opened(one, source, precision, samples)
            _log.info("Engine: %s, the fastest when it was measured (%s).", known, remembered.path)
            return predictor
        except Exception as error:  # each framework has its own errors
            _log.warning("The engine %s, the fastest when it was measured, fails: %s", known, error)
    return _open_fastest(able, source, precision, samples, batch_size, remembered)


def _opened(engine: Engine, source: StoredModel, precision: str, samples) -> Predictor:
    forms = engine.formats(source.form.name, precision)
    if not forms:
        raise ValueError(_unable(f"The engine {engine.name}", source, precision))
    for form in forms:
        try:
            path = converted(source, form, samples)
            break
        except Exception as error:  # each converter has its own errors
            if form == forms[-1]:
                raise
            _log.info("The engine %s runs %s instead of %s: %s", engine.name, forms[-1], form, error)
    opened = engine.run(path, precision)

    def scores(images: np.ndarray) -> np.ndarray:
        images = np.ascontiguousarray(images, np.float32)
        if len(images):
            return opened.scores(images)
        return opened.scores(np.zeros((1, *images.shape[1:]), np.float32))[:0]  # some runtimes refuse empty arrays

    size = source.form.size(source.path)
    return dataclasses.replace(opened, format=engine.name, scores=scores, path=source.path, size=size)


def _unable(subject: str, source: StoredModel, precision: str) -> str:
    able = [
        f"{one.name} ({', '.join(found)}{'' if one.is_installed else f'; not installed: {one.install}'})"
        for one in ENGINES.values()
        if (found := [each for each in PRECISIONS if one.formats(source.form.name, each)])
    ]
    advice = ""
    if source.form.name != "keras":
        leave_out = "" if precision == "float32" else "leave out the precision, or "
        advice = f" An exported file runs as it was exported: {leave_out}give the run folder or another exported file."
    return (
        f"{subject} cannot run a model of the format {source.form.name} at the precision {precision}. "
        f"Engines for this format: {', '.join(able) or 'none'}.{advice}"
    )


def _open_fastest(
    able: list[Engine], source: StoredModel, precision: str, samples, batch_size: int, remembered
) -> Predictor:
    """Measures engines one after the other, keeps the fastest open, and remembers all rates."""
    images = np.random.default_rng(0).uniform(-1, 1, (batch_size, *source.input_shape)).astype(np.float32)
    rates: dict[str, float] = {}
    best: Predictor | None = None
    failures: list[str] = []  # not the errors, whose tracebacks would keep engines open
    for engine in able:
        _log.info("Measuring the engine %s ...", engine.name)
        try:
            predictor, rates[engine.name] = _measured(engine, source, precision, samples, images)
        except Exception as error:  # each framework has its own errors
            _log.info("The engine %s is left out: %s", engine.name, error)
            failures.append(f"{engine.name}: {error}")
            continue
        if best is None or rates[engine.name] > rates[best.format]:
            best = predictor
        del predictor  # a slower engine is closed before the next one starts
    if best is None:
        raise ValueError(f"No engine runs the model. {'; '.join(failures)}")
    order = sorted(rates, key=rates.__getitem__, reverse=True)
    _log.info("Engine: %s; images/s: %s.", best.format, ", ".join(f"{name} {rates[name]:.3g}" for name in order))
    remembered.keep(best.format, rates)
    return best


def _measured(engine: Engine, source: StoredModel, precision: str, samples, images) -> tuple[Predictor, float]:
    predictor = _opened(engine, source, precision, samples)
    return predictor, len(images) / fastest(functools.partial(predictor.scores, images), 1, seconds=_SECONDS)


class _RememberedChoice:
    """The engine that was the fastest for such a model on such a machine, in a JSON file."""

    def __init__(self, engines: Iterable[Engine], source: StoredModel, precision: str, batch_size: int):
        needed = [module for engine in engines for module in engine.needs]
        forms = [form for engine in engines for form in engine.formats(source.form.name, precision)]
        self._facts = {
            "engines": [engine.name for engine in engines],
            "processor": machine.processor(),
            "cores": usable_cores(),
            "accelerators": machine.accelerators(),
            "versions": machine.versions(needed) | versions_for(*forms),
            "model": source.design,
            "input_shape": list(source.input_shape),
            "precision": precision,
            "batch_size": batch_size,
        }
        key = hashlib.sha256(json.dumps(self._facts, sort_keys=True).encode()).hexdigest()[:32]
        self.path = cache_folder() / "choices" / f"{key}.json"

    def choice(self) -> str | None:
        """Returns the engine that was the fastest, or None if none was measured."""
        try:
            entry = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # missing or damaged
            return None
        return entry.get("engine") if isinstance(entry, dict) else None

    def keep(self, engine: str, rates: dict[str, float]) -> None:
        """Writes a choice. A cache folder that cannot be written is only reported."""
        entry = {**self._facts, "engine": engine, "images_per_second": rates}
        try:
            with written_whole(self.path) as partial:
                partial.write_text(json.dumps(entry, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            _log.warning("The choice is not remembered, because %s cannot be written: %s", self.path, error)
