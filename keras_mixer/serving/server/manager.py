"""Decides which versions of a model answer: watches folders, and switches versions without losing a request."""

import gc
import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from keras_mixer import wire
from keras_mixer.serving.errors import RequestError, invalid
from keras_mixer.serving.server.config import ModelConfig
from keras_mixer.serving.server.metrics import Metrics
from keras_mixer.serving.server.servable import Servable, warm_up

_log = logging.getLogger("keras_mixer.serving")


@dataclass
class _Version:
    """A version, whose state is LOADING, AVAILABLE, UNLOADING or END. After a failed load it is END with an error."""

    stamp: frozenset  # the version's files; after a failed load, it is loaded again once they change
    state: str = "LOADING"
    error: str = ""
    servable: Servable | None = None
    users: int = 0


@dataclass
class _Model:
    config: ModelConfig
    versions: dict[int, _Version] = field(default_factory=dict)
    unreadable: str = ""  # why the last look at the folder failed, which is logged once

    def available(self) -> list[int]:
        return sorted(number for number, version in self.versions.items() if version.state == "AVAILABLE")


class ModelManager:
    """Loads, switches and unloads versions. Several threads may use it, but only one at a time may call `poll`."""

    def __init__(self, models: Iterable[ModelConfig], metrics: Metrics, batch_sizes: tuple[int, ...] = (1,)):
        self.models: dict[str, _Model] = {}
        for config in models:
            if config.name in self.models:
                raise ValueError(f"Two models are named {config.name!r}: give one of them another name.")
            self.models[config.name] = _Model(config)
        self._metrics = metrics
        self._batch_sizes = batch_sizes
        self._lock = threading.Lock()

    def load(self) -> None:
        """Loads every model for the first time. Raises an OSError or a ValueError if one of them cannot be served."""
        for model in self.models.values():
            config = model.config
            wire.check_base_path(config.base_path)
            self._poll_model(model, config)
            if not model.available():
                errors = "; ".join(_not_served(model, number) for number in model.versions)
                raise ValueError(errors or f"{config.base_path} lacks the versions {config.versions!r}.")
            for label, number in config.labels.items():
                if number not in model.available():
                    raise ValueError(
                        f"The label {label!r} names version {number} of {config.name}, which is not served. "
                        f"The versions served are {model.available()}."
                    )

    def poll(self, configs: Iterable[ModelConfig] = ()) -> None:
        """Looks at every folder once: loads what is new, then unloads what is no longer wanted.

        `configs` are new settings of served models, found by name. They apply once all versions that they label are
        available. Settings of other models are ignored.
        """
        changed = {config.name: config for config in configs}
        for name, model in self.models.items():
            self._poll_model(model, changed.get(name, model.config))

    def _poll_model(self, model: _Model, config: ModelConfig) -> None:
        found, tried = _versions_in(config.base_path, model), []
        for number in _wanted_of(config, found):
            version = model.versions.get(number)
            if version is None or version.state == "END":
                stamp = _stamp_of(found[number])
                if version is None or not version.error or version.stamp != stamp:
                    tried.append(number)
                    self._load(model, number, found[number], stamp)
        if model.available():  # otherwise `load` raises this error
            for number in tried:
                if model.versions[number].error:
                    _log.error(_not_served(model, number))
        if set(config.labels.values()) <= set(model.available()):
            with self._lock:
                model.config = config
        wanted = {*_wanted_of(model.config, found), *_wanted_of(config, found)}
        # Service goes on if a folder is empty or unreachable for a moment, or a new version fails.
        if any(number in model.available() for number in wanted):
            for number in model.available():
                if number not in wanted:
                    self._set(model, number, "UNLOADING")
        self._let_go(model, found)

    def _load(self, model: _Model, number: int, path: Path, stamp: frozenset) -> None:
        name = model.config.name
        with self._lock:
            version = model.versions[number] = _Version(stamp)
        try:
            servable = Servable(name, number, path)
            warm_up(servable, self._batch_sizes)
        except Exception as error:  # the version must not stay LOADING for ever
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
        """Ends versions whose last request is answered, and forgets ended versions whose folder is gone."""
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
        """Gives the version that is asked for, by default the highest, and keeps it loaded until the block ends."""
        with self._lock:
            entry = self._find(name, version, label)
            entry.users += 1
        try:
            assert entry.servable is not None  # an available version has one
            yield entry.servable
        finally:
            with self._lock:
                entry.users -= 1

    def _named(self, name: str, version: int | None, label: str | None) -> tuple[_Model | None, int | None]:
        model = self.models.get(name)
        if label is None:
            return model, version
        if model is None or label not in model.config.labels:
            raise invalid(f"Unrecognized servable version label: {label}")
        return model, model.config.labels[label]

    def _find(self, name: str, version: int | None, label: str | None) -> _Version:
        if version is not None and label is not None:
            raise invalid("A request names a version or a label, not both.")
        model, version = self._named(name, version, label)
        available = model.available() if model else []
        if version is None and available:
            version = available[-1]
        if model is None or version not in available:
            which = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise RequestError("NOT_FOUND", f"Servable not found for request: {which}")
        return model.versions[version]

    def status(self, name: str, version: int | None = None, label: str | None = None) -> list[tuple[int, str, str]]:
        """Returns number, state and error of a model's versions, the highest first."""
        with self._lock:
            model, version = self._named(name, version, label)
            versions = sorted(model.versions.items(), reverse=True) if model else []
            rows = [(number, entry.state, entry.error) for number, entry in versions if version in (None, number)]
        if not rows:
            what = "any versions" if version is None else f"version {version}"
            raise RequestError("NOT_FOUND", f"Could not find {what} of model {name}")
        return rows


def _not_served(model: _Model, number: int) -> str:
    return f"Version {number} of {model.config.name} cannot be served: {model.versions[number].error}"


def _versions_in(base_path: Path, model: _Model) -> dict[int, Path]:
    before, model.unreadable = model.unreadable, ""
    try:
        return wire.versions_in(base_path)
    except OSError as error:
        model.unreadable = str(error)
        if model.unreadable != before:
            _log.warning("%s cannot be read: %s", base_path, error)
        return {}


def _stamp_of(folder: Path) -> frozenset:
    """Returns names, sizes and times of all files of a version. They change until a slow copy is complete."""
    try:
        files = [(str(file), file.stat()) for file in folder.rglob("*")]
    except OSError:  # a file was removed after it was listed
        return frozenset()
    return frozenset((name, status.st_size, status.st_mtime_ns) for name, status in files)


def _wanted_of(config: ModelConfig, found: dict[int, Path]) -> list[int]:
    """Returns the versions that the policy serves and those that have a label, the highest first."""
    numbers = sorted(found, reverse=True)
    match config.versions:
        case "latest":
            by_policy = numbers[:1]
        case "all":
            by_policy = numbers
        case int(count):
            by_policy = numbers[:count]
        case chosen:
            by_policy = list(chosen)
    served = {*by_policy, *config.labels.values()}
    return [number for number in numbers if number in served]
