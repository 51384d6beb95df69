"""Which versions of which models answer: a folder is watched, and versions come and go without losing a request."""

import gc
import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from keras_mixer.serving.config import ModelConfig
from keras_mixer.serving.errors import RequestError, invalid
from keras_mixer.serving.folders import stamp_of, versions_in, wanted_of
from keras_mixer.serving.metrics import Metrics
from keras_mixer.serving.servable import Servable
from keras_mixer.serving.warmup import warm_up

_log = logging.getLogger("keras_mixer.serving")


@dataclass
class _Version:
    """The life of a version: LOADING, AVAILABLE, UNLOADING, END; a failed load ends with its error."""

    state: str = "LOADING"
    error: str = ""
    stamp: frozenset = frozenset()  # its files as they were when it was loaded: a failed load waits for other ones
    servable: Servable | None = None
    users: int = 0


@dataclass
class _Model:
    config: ModelConfig
    versions: dict[int, _Version] = field(default_factory=dict)

    def available(self) -> list[int]:
        return sorted(number for number, version in self.versions.items() if version.state == "AVAILABLE")


class ModelManager:
    """Loads, switches and unloads versions. Safe to use from several threads; `poll` from one at a time.

    Args:
        models: What to serve.
        metrics: Where the available versions are recorded.
        batch_sizes: The sizes of batches to warm up with.

    Raises:
        ValueError: If two models have one name.
    """

    def __init__(self, models: Iterable[ModelConfig], metrics: Metrics, batch_sizes: tuple[int, ...] = (1,)):
        self._models: dict[str, _Model] = {}
        for config in models:
            if config.name in self._models:
                raise ValueError(f"Two models are named {config.name!r}: give one of them another name.")
            self._models[config.name] = _Model(config)
        self._metrics = metrics
        self._batch_sizes = batch_sizes
        self._lock = threading.Lock()

    def load(self) -> None:
        """Loads every model for the first time.

        Raises:
            FileNotFoundError: If a base path or all its versions are missing.
            ValueError: If no version of a model can be loaded, or a label names one that is not served.
        """
        for model in self._models.values():
            config = model.config
            if not config.base_path.is_dir():
                raise FileNotFoundError(f"There is no folder {config.base_path}: name a model's base path.")
            if not versions_in(config.base_path):
                raise FileNotFoundError(
                    f"{config.base_path} has no versions: expected numbered folders, each with a saved_model.pb."
                )
            self._poll_model(model, config)
            if not model.available():
                errors = "; ".join(_not_served(model, number) for number in model.versions)
                raise ValueError(errors or f"{config.base_path} has none of the versions {config.versions!r}.")
            for label, number in config.labels.items():
                if number not in model.available():
                    raise ValueError(
                        f"The label {label!r} names version {number} of {config.name}, which is not served: "
                        f"these are: {model.available()}."
                    )

    def poll(self, configs: Iterable[ModelConfig] = ()) -> None:
        """Looks at every folder once: loads what is new, then lets go of what is no longer wanted.

        Args:
            configs: New settings of models that are served, known by their names. They take over once all the
                versions that they label are available; until then the old ones stand. Other models are passed over.
        """
        changed = {config.name: config for config in configs}
        for name, model in self._models.items():
            self._poll_model(model, changed.get(name, model.config))

    def _poll_model(self, model: _Model, config: ModelConfig) -> None:
        found, tried = versions_in(config.base_path), []
        for number in wanted_of(config, found):
            version = model.versions.get(number)
            if version is None or version.state == "END":
                stamp = stamp_of(found[number].parent)
                if version is None or not version.error or version.stamp != stamp:
                    tried.append(number)
                    self._load(model, number, found[number].parent, stamp)
        if model.available():  # else `load` raises the same
            for number in tried:
                if model.versions[number].error:
                    _log.error(_not_served(model, number))
        if set(config.labels.values()) <= set(model.available()):
            with self._lock:
                model.config = config
        wanted = {*wanted_of(model.config, found), *wanted_of(config, found)}
        # A folder that is empty or out of reach for a moment ends no service, nor does a new version that fails.
        if any(number in model.available() for number in wanted):
            for number in model.available():
                if number not in wanted:
                    self._set(model, number, "UNLOADING")
        self._let_go(model, found)

    def _load(self, model: _Model, number: int, path: Path, stamp: frozenset) -> None:
        name = model.config.name
        with self._lock:
            version = model.versions[number] = _Version(stamp=stamp)
        try:
            servable = Servable(name, number, path)
            warm_up(servable, self._batch_sizes)
        except Exception as error:  # whatever it is, the version must not stay LOADING for ever
            message = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            with self._lock:
                version.state, version.error = "END", message
            return
        with self._lock:
            version.servable = servable
        self._set(model, number, "AVAILABLE")

    def _set(self, model: _Model, number: int, state: str) -> None:
        with self._lock:
            model.versions[number].state = state
        self._metrics.version(model.config.name, number, state == "AVAILABLE")
        _log.info("Version %d of %s: %s", number, model.config.name, state)

    def _let_go(self, model: _Model, found: dict[int, Path]) -> None:
        """Ends versions whose last request is answered, and forgets ended ones whose folder is gone."""
        freed = False
        with self._lock:
            for number, version in list(model.versions.items()):
                if version.state == "UNLOADING" and version.users == 0:
                    version.state, version.servable, freed = "END", None, True
                elif version.state == "END" and number not in found:
                    del model.versions[number]
        if freed:
            gc.collect()  # a loaded SavedModel is full of cycles, and large

    @contextmanager
    def use(self, name: str, version: int | None = None, label: str | None = None) -> Iterator[Servable]:
        """A version to run: the one asked for, or the highest. It is not unloaded before the block ends.

        Raises:
            RequestError: If there is none (NOT_FOUND), or the label is unknown.
        """
        with self._lock:
            entry = self._find(name, version, label)
            entry.users += 1
        try:
            assert entry.servable is not None  # an available version has one
            yield entry.servable
        finally:
            with self._lock:
                entry.users -= 1

    def _find(self, name: str, version: int | None, label: str | None) -> _Version:
        if version is not None and label is not None:
            raise invalid("A request names a version or a label, not both.")
        model = self._models.get(name)
        if label is not None:
            if model is None or label not in model.config.labels:
                raise invalid(f"Unrecognized servable version label: {label}")
            version = model.config.labels[label]
        available = model.available() if model else []
        if version is None and available:
            version = available[-1]
        if model is None or version not in available:
            which = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise RequestError("NOT_FOUND", f"Servable not found for request: {which}")
        return model.versions[version]

    def status(self, name: str, version: int | None = None, label: str | None = None) -> list[tuple[int, str, str]]:
        """Number, state and error of a model's versions, the highest first.

        Raises:
            RequestError: If the model, the version or the label is unknown.
        """
        with self._lock:
            model = self._models.get(name)
            if label is not None:
                if model is None or label not in model.config.labels:
                    raise invalid(f"Unrecognized servable version label: {label}")
                version = model.config.labels[label]
            versions = sorted(model.versions.items(), reverse=True) if model else []
            rows = [(number, entry.state, entry.error) for number, entry in versions if version in (None, number)]
        if not rows:
            what = "any versions" if version is None else f"version {version}"
            raise RequestError("NOT_FOUND", f"Could not find {what} of model {name}")
        return rows

    def known(self, name: str) -> bool:
        """Whether `name` is a model of this server."""
        return name in self._models

    @property
    def names(self) -> list[str]:
        """The models' names."""
        return list(self._models)


def _not_served(model: _Model, number: int) -> str:
    return f"Version {number} of {model.config.name} cannot be served: {model.versions[number].error}"
