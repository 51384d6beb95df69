"""Opens a model by the engine that is asked for, or by the fastest, which is measured once and remembered."""

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from keras_mixer.artefacts.predictor import Predictor, Scores
from keras_mixer.cores import usable_cores
from keras_mixer.engines.conversion import Source, converted, folder, source_of
from keras_mixer.engines.table import ENGINES, PRECISIONS, Engine
from keras_mixer.files import written_whole

if TYPE_CHECKING:
    import keras

AUTO = "auto"
CHOICES_FILE = "choices.json"
_SECONDS, _BATCH_SIZE = 2.0, 8  # of a measurement
_FAILURES = (ValueError, ImportError, OSError, RuntimeError)

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

    The engines "tensorflow", "jax" and "torch" run a Keras model on that backend of Keras, in a process of its own if
    this process has another. "openvino", "litert" and "onnxruntime" run exported files. A Keras model is converted for
    them once, and the package's cache folder keeps the file. The engine "auto" measures all engines that are installed
    for about two seconds each, besides the time to start them. It logs its choice and remembers it in the cache folder
    for this machine, these versions, this architecture and this precision.

    Args:
        model: A run folder, a `.keras` file, an exported file or folder, or a functional `keras.Model`.
        engine: A key of `ENGINES`, or "auto".
        precision: "float32"; "bfloat16", in which weights and activations have 8 bits of precision; or "int8", in which
            matrix products have 8 bits. An exported file cannot be made more precise than it is: "float32" then runs it
            as it is.
        batch_size: Images per call that "auto" measures with.
        samples: For "int8", preprocessed images `(n, height, width, channels)` that are typical of the model's inputs.
            None takes 200 images of the training split that the model's card names. Without either, LiteRT computes the
            scales of activations for each image.

    Returns:
        The classifier. Its `format` is the engine's name.

    Raises:
        ValueError: If there is no model, or the engine cannot run it at this precision.
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
    source = source_of(model)
    if engine != AUTO:
        ENGINES[engine].check_installed()
        return _opened(ENGINES[engine], source, precision, samples)
    able = [one for one in ENGINES.values() if one.formats(source.form.name, precision) and one.is_installed]
    if len(able) == 1:
        return _opened(able[0], source, precision, samples)
    if not able and precision == "float32":  # a format of the user's own
        return source.form.opened(source.path)
    if not able:
        raise ValueError(_unable("What is installed", source, precision))
    known = _Memory(able, source, precision)
    if (name := known.choice()) in ENGINES:
        with contextlib.suppress(*_FAILURES):
            predictor = _opened(ENGINES[name], source, precision, samples)
            _log.info("Engine: %s, the fastest when it was measured (%s).", name, folder() / CHOICES_FILE)
            return predictor
    return _fastest(able, source, precision, samples, batch_size, known)


def _opened(engine: Engine, source: Source, precision: str, samples) -> Predictor:
    forms = engine.formats(source.form.name, precision)
    if not forms:
        raise ValueError(_unable(f"The engine {engine.name}", source, precision))
    for form in forms:
        try:
            path = converted(source, form, samples)
            break
        except (ValueError, ImportError, OSError) as error:
            if form == forms[-1]:
                raise
            _log.info("The engine %s runs %s instead of %s: %s", engine.name, forms[-1], form, error)
    return Predictor(engine.name, engine.run(path, precision), source.path, source.form.size(source.path))


def _unable(subject: str, source: Source, precision: str) -> str:
    able = [
        f"{one.name} ({', '.join(found)})"
        for one in ENGINES.values()
        if (found := [each for each in PRECISIONS if one.formats(source.form.name, each)])
    ]
    advice = "" if source.form.name == "keras" else " Give the run folder, or export the model in another format."
    return (
        f"{subject} cannot run a model of the format {source.form.name} at the precision {precision}. "
        f"Engines for this format: {', '.join(able) or 'none'}.{advice}"
    )


def _fastest(able: list[Engine], source: Source, precision: str, samples, batch_size: int, memory) -> Predictor:
    """Measures engines one after the other, keeps the fastest open, and remembers all rates."""
    images = np.random.default_rng(0).uniform(-1, 1, (min(batch_size, _BATCH_SIZE), *source.input_shape))
    images = images.astype(np.float32)
    rates: dict[str, float] = {}
    best: Predictor | None = None
    errors: list[Exception] = []
    for engine in able:
        _log.info("Measuring the engine %s ...", engine.name)
        try:
            predictor = _opened(engine, source, precision, samples)
            rates[engine.name] = _rate(predictor.scores, images)
        except _FAILURES as error:
            _log.info("The engine %s is left out: %s", engine.name, error)
            errors.append(error)
            continue
        if best is None or rates[engine.name] > rates[best.format]:
            best = predictor
    if best is None:
        raise errors[0]
    order = sorted(rates, key=rates.__getitem__, reverse=True)
    _log.info("Engine: %s; images/s: %s.", best.format, ", ".join(f"{name} {rates[name]:.3g}" for name in order))
    memory.keep(best.format, rates)
    return best


def _rate(scores: Scores, images: np.ndarray) -> float:
    """Returns the images per second of the fastest of some calls, after one to warm up."""
    scores(images)
    times: list[float] = []
    while sum(times) < _SECONDS or len(times) < 3:
        start = time.perf_counter()
        scores(images)
        times.append(time.perf_counter() - start)
    return len(images) / min(times)


class _Memory:
    """The measured rates of the engines on this machine, for one architecture and precision, in a JSON file."""

    def __init__(self, engines: list[Engine], source: Source, precision: str):
        self._facts = {
            "machine": _machine(),
            "versions": dict(sorted(set(_versions(engines)))),
            "model": source.design,
            "input_shape": list(source.input_shape),
            "precision": precision,
        }
        self._key = hashlib.sha256(json.dumps(self._facts, sort_keys=True).encode()).hexdigest()[:32]
        self._path = folder() / CHOICES_FILE

    def choice(self) -> str | None:
        """Returns the engine that was the fastest, or None if none was measured."""
        entry = self._all().get(self._key)
        return entry.get("engine") if isinstance(entry, dict) else None

    def keep(self, engine: str, rates: dict[str, float]) -> None:
        """Writes a choice. A cache folder that cannot be written is only reported."""
        entry = {**self._facts, "engine": engine, "images_per_second": rates}
        text = json.dumps({**self._all(), self._key: entry}, indent=1)
        try:
            with written_whole(self._path) as partial:
                partial.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            _log.warning("The choice is not remembered, because %s cannot be written: %s", self._path, error)

    def _all(self) -> dict:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # missing or damaged
            return {}
        return found if isinstance(found, dict) else {}


def _machine() -> str:
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
        model = names[0] if names else model
    return f"{platform.node()}, {model}, {usable_cores()} cores"


def _versions(engines: list[Engine]) -> Iterator[tuple[str, str]]:
    distributions = importlib.metadata.packages_distributions()
    for engine in engines:
        for module in engine.needs:
            for name in distributions.get(module, [module]):
                with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                    yield name, importlib.metadata.version(name)
