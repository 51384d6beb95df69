"""Converts a Keras model for an engine, once, into the package's cache folder."""

import dataclasses
import hashlib
import importlib.metadata
import logging
import pathlib
import re
import zipfile
from typing import TYPE_CHECKING

import numpy as np

from keras_mixer.artefacts.opening import FORMATS, KERAS_FILE, find, fingerprint, load_card
from keras_mixer.artefacts.record import Format
from keras_mixer.download import cache_directory
from keras_mixer.engines import backends, worker
from keras_mixer.extras import require
from keras_mixer.files import written_whole

if TYPE_CHECKING:
    import keras

_log = logging.getLogger(__name__)


def folder() -> pathlib.Path:
    """Returns the folder of converted models and of what was measured. It may be deleted at any time."""
    return cache_directory() / "engines"


@dataclasses.dataclass(frozen=True)
class Source:
    """A model on disk.

    Attributes:
        form: Its format.
        path: Its file or folder.
        input_shape: Height, width and channels of its images.
        digest: Tells it from other models.
        design: Tells models of other layers or sizes from it. Models with other weights have the same.
    """

    form: Format
    path: pathlib.Path
    input_shape: tuple[int, int, int]
    digest: str
    design: str


def source_of(model) -> Source:
    """Describes a model at a path, or writes a `keras.Model` to the cache folder and describes that.

    Raises:
        ValueError: If there is no model or card at the path.
    """
    if hasattr(model, "get_config"):
        return _saved(model)
    form, path = find(model)
    digest = fingerprint(path)
    design = _design(path) if form is KERAS_FILE else digest
    return Source(form, path, load_card(model).preprocessing.input_shape, digest, design)


def _saved(model: "keras.Model") -> Source:
    digest = hashlib.sha256(_without_addresses(model.to_json()))
    for weight in model.get_weights():
        digest.update(np.asarray(weight).tobytes())
    path = folder() / digest.hexdigest()[:32] / KERAS_FILE.file
    if not path.exists():
        with written_whole(path) as partial:
            model.save(partial)
    return Source(KERAS_FILE, path, tuple(model.input_shape[1:]), digest.hexdigest(), _design(path))


def _design(path: pathlib.Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            return hashlib.sha256(_without_addresses(archive.read("config.json").decode())).hexdigest()
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{path} cannot be read as a Keras model: {error}") from error


def _without_addresses(config: str) -> bytes:
    """Drops the numbers by which Keras marks objects that layers share. They differ from process to process."""
    return re.sub(r'(, )?"shared_object_id": \d+', "", config).encode()


def converted(source: Source, form: str, samples: np.ndarray | None) -> pathlib.Path:
    """Returns the model in another format, from the cache folder if it was converted before.

    Args:
        source: A Keras model.
        form: The format.
        samples: Preprocessed images that calibrate int8; None for those of the dataset that the model's card names.

    Raises:
        ValueError: If the model cannot be converted, or int8 lacks images.
        ImportError: If a package that writes the format is not installed.
    """
    if source.form.name == form:
        return source.path
    FORMATS[form].check_installed(to_write=True)
    require("tensorflow", extra="tensorflow", purpose=f"Converting a model to {form}")
    versions = [importlib.metadata.version(name) for name in ("keras_mixer", "keras")]
    calibrated = b"" if samples is None or not FORMATS[form].calibrated else np.asarray(samples).tobytes()
    digest = hashlib.sha256(f"{source.digest} {versions}".encode() + calibrated).hexdigest()[:32]
    target = folder() / digest / FORMATS[form].file
    if not target.exists():
        _log.info("Converting the model to %s, once, into %s.", form, target.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        (backends.write if backends.loaded() == "tensorflow" else worker.convert)(source.path, form, target, samples)
    return target
