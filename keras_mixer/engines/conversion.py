"""Converts a Keras model for an engine, once, into the package's cache folder."""

import atexit
import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import pathlib
import shutil
import tempfile
import zipfile
from typing import TYPE_CHECKING

import numpy as np

from keras_mixer import machine
from keras_mixer.artefacts.opening import FORMATS, KERAS_FILE, find, fingerprint, load_card
from keras_mixer.artefacts.predictor import on_one_tensor
from keras_mixer.artefacts.record import Format
from keras_mixer.download import cache_directory
from keras_mixer.engines import backends, worker
from keras_mixer.extras import require
from keras_mixer.files import scratch_folder, written_whole

if TYPE_CHECKING:
    import keras

# What a configuration says besides the design: how the model is trained, and numbers that mark shared objects and
# differ from process to process.
_NOT_DESIGN = ("compile_config", "shared_object_id")

_log = logging.getLogger(__name__)


def cache_folder() -> pathlib.Path:
    """Returns the folder of converted models and of measurements. It may be deleted at any time.

    If the cache cannot be written, as in a container without a home, this is a temporary folder of this process.
    """
    return _writable(cache_directory() / "engines")


@functools.cache
def _writable(folder: pathlib.Path) -> pathlib.Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        temporary = tempfile.mkdtemp(prefix="keras_mixer-engines-")
        atexit.register(shutil.rmtree, temporary, ignore_errors=True)
        _log.warning(
            "The cache folder %s cannot be written (%s), so models are converted again in each process: set KERAS_HOME "
            "to a folder of your own.",
            folder,
            error.strerror,
        )
        return pathlib.Path(temporary)


@dataclasses.dataclass(frozen=True)
class StoredModel:
    """A model on disk.

    Attributes:
        form: Its format.
        path: Its file or folder.
        input_shape: Height, width and channels of its images.
        digest: Differs between models with different layers, sizes or weights.
        design: Differs between models with different layers or sizes.
    """

    form: Format
    path: pathlib.Path
    input_shape: tuple[int, int, int]
    digest: str
    design: str


def source_of(model) -> StoredModel:
    """Describes a model at a path, or writes a `keras.Model` to the cache folder and describes that.

    Raises:
        ValueError: If there is no model or card at the path, or a `keras.Model` has several inputs or outputs, or
            accepts images of any size.
    """
    if hasattr(model, "get_config"):
        return _saved(model)
    form, path = find(model)
    digest = fingerprint(path)
    design = _design(path) if form is KERAS_FILE else digest
    return StoredModel(form, path, load_card(model).preprocessing.input_shape, digest, design)


def digest_of(model: "keras.Model") -> str:
    """Returns a hash of a model's layers and weights."""
    digest = hashlib.sha256(_hash(model.to_json()).encode())
    for weight in model.get_weights():
        digest.update(np.asarray(weight).tobytes())
    return digest.hexdigest()


def _saved(model: "keras.Model") -> StoredModel:
    model = on_one_tensor(model)  # a new model, which is not compiled and therefore saved without an optimizer
    shape = tuple(model.input_shape[1:])
    if len(shape) != 3 or None in shape:
        raise ValueError(
            f"Expected a model of images of one size, but {model.name!r} takes {shape}: give `input_shape` where it is "
            "built."
        )
    digest = digest_of(model)
    path = cache_folder() / digest[:32] / KERAS_FILE.file
    if not path.exists():
        with written_whole(path) as partial:
            model.save(partial)
    return StoredModel(KERAS_FILE, path, shape, digest, _hash(model.to_json()))


def _design(path: pathlib.Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            return _hash(archive.read("config.json").decode())
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{path} cannot be read as a Keras model: {error}") from error


def _hash(config: str) -> str:
    """Returns a hash of what a model's configuration says about its design."""
    design = json.loads(config, object_hook=lambda part: {k: part[k] for k in part if k not in _NOT_DESIGN})
    return hashlib.sha256(json.dumps(design, sort_keys=True).encode()).hexdigest()


def versions_for(*forms: str) -> dict[str, str]:
    """Returns the versions of this package and of what is installed to convert models to these formats and run them."""
    known = [FORMATS[form] for form in forms if form in FORMATS]
    needed = [module for form in known for module in (*form.needs, *form.needs_to_write)]
    return machine.versions({"keras_mixer", "keras", "tensorflow", *needed})


def converted(source: StoredModel, form: str, samples: np.ndarray | None) -> pathlib.Path:
    """Returns the model in another format, from the cache folder if it was converted before.

    Args:
        source: A Keras model.
        form: The format.
        samples: Preprocessed images that calibrate int8; None for those of the dataset that the model's card names.

    Raises:
        ValueError: If the model cannot be converted, int8 lacks images, or the int8 file gives other classes than the
            model. The reason for refusing an int8 file is kept in place of the file.
        ImportError: If a package that writes the format is not installed.
    """
    if source.form.name == form:
        return source.path
    FORMATS[form].check_installed(to_write=True)
    require("tensorflow", extra="tensorflow", purpose=f"Converting a model to {form}")
    digest = hashlib.sha256(f"{source.digest} {form} {versions_for(form)}".encode())
    if FORMATS[form].calibrated:
        if samples is None and not _names_images(source):
            raise ValueError(
                "int8 needs images to calibrate on, but the model has no card that names a dataset: give `samples` to "
                "`open_engine`, or take another precision."
            )
        digest.update(machine.processor().encode())  # because the file is checked on it
        digest.update(b"" if samples is None else samples.tobytes())
    target = cache_folder() / digest.hexdigest()[:32] / FORMATS[form].file
    refusal = target.with_name("refused.txt")
    if not target.exists() and not refusal.exists():
        _log.info("Converting the model to %s, once, into %s.", form, target.parent)
        write = backends.write if backends.loaded_backend() == "tensorflow" else worker.convert
        with scratch_folder(cache_folder()) as scratch:
            made = scratch / "made"
            made.mkdir()
            if refused := write(source.path, form, made / target.name, samples):
                made = scratch / "refused"
                made.mkdir()
                (made / refusal.name).write_text(refused, encoding="utf-8")
            with contextlib.suppress(OSError):  # another process was faster
                made.replace(target.parent)
    if refusal.exists():
        raise ValueError(refusal.read_text(encoding="utf-8"))
    return target


def _names_images(source: StoredModel) -> bool:
    return KERAS_FILE.card_of(source.path).is_file() and load_card(source.path).dataset is not None
