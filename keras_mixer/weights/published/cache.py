"""The published sets of weights, and their files in the cache, whose contents are checked at every use."""

import hashlib
import logging
import os
from pathlib import Path

import numpy as np

from keras_mixer.files import remove_stale_partial_files
from keras_mixer.models.catalogue import ARCHITECTURES, architectures, find_row
from keras_mixer.models.record import WeightSet
from keras_mixer.preprocessing import Preprocessing, preprocess_input  # noqa: F401 - public in keras_mixer.weights
from keras_mixer.weights.published.transfer import digest_path, fetch, write_digest

InputPreprocessing = Preprocessing  # its name in version 0.1
SHIPPED = Path(__file__).parent.parent / "shipped"

_log = logging.getLogger(__name__)


def available(variant: str | None = None) -> list[WeightSet]:
    """Lists the published sets of weights, of one variant or of all.

    Args:
        variant: Name of the variant, such as "mixer_b16"; None for all.

    Returns:
        The sets; an empty list if none were published for the variant.

    Example:
        >>> [entry.name for entry in keras_mixer.weights.available("mixer_l16")]
        ['imagenet1k', 'imagenet21k', 'imagenet21k_timm', 'imagenet1k_timm']
    """
    entries = [entry for architecture in architectures() for entry in architecture.published]
    return [entry for entry in entries if variant in (None, entry.variant)]


def find(variant: str, name: str) -> WeightSet:
    """Returns the set `name` of `variant`.

    Raises:
        ValueError: If there is no such set; the message lists those that exist.

    Example:
        >>> keras_mixer.weights.find("mixer_nano", "cifar10").preprocessing.image_size
        (32, 32)
    """
    for entry in available(variant):
        if entry.name == name:
            return entry
    title = f"{find_row(variant)[1].title} ({variant})" if variant in ARCHITECTURES else repr(variant)
    if known := ", ".join(entry.name for entry in available(variant)):
        raise ValueError(f"No set of weights {name!r} of {title} was published. Published ones: {known}.")
    variants = ", ".join(sorted({entry.variant for entry in available()}))
    raise ValueError(
        f"No weights of {title} were published, but {name!r} was asked for: pass the path of a checkpoint. "
        f"Variants with published weights: {variants}."
    )


def cache_directory() -> Path:
    """Returns the folder `keras_mixer` in Keras's own cache, which is `KERAS_HOME` or `~/.keras`."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "keras_mixer"


def cached_path(entry: WeightSet) -> Path:
    """Returns the place of a set's file, which may not exist yet: in the cache, or in this package."""
    return (cache_directory() if entry.url else SHIPPED) / entry.file_name


def download(variant: str, name: str) -> Path:
    """Returns the file of a set of weights, after fetching it if it is not in the cache.

    Args:
        variant: Name of the variant, such as "mixer_b16".
        name: Name of the set, such as "imagenet21k".

    Returns:
        The path of a file whose sha256 is the recorded one.

    Raises:
        ValueError: If there is no such set, or its file has changed.
        OSError: If it cannot be fetched.

    Example:
        >>> keras_mixer.weights.download("mixer_b16", "imagenet21k")
        PosixPath('/home/me/.keras/keras_mixer/mixer_b16-imagenet21k.npz')
    """
    entry = find(variant, name)
    if entry.url is None:
        verify(cached_path(entry))
        return cached_path(entry)
    return cached_file(entry.url, entry.file_name)


def path_to_load(variant: str, name: str) -> Path:
    """Does what `download` does, and logs the note that comes with the set."""
    path, note = download(variant, name), find(variant, name).note
    if note:
        _log.warning("The weights %s of %s: %s", name, variant, note)
    return path


def cached_file(url: str, name: str) -> Path:
    """Returns the cached file `name` after checking its sha256; fetches it from `url` if it is not there."""
    path = cache_directory() / name
    remove_stale_partial_files(path.parent)  # large files of downloads that were killed
    if path.is_file():
        verify(path)
    else:
        fetch(url, path)
    return path


def verify(path: Path) -> str:
    """Checks a cached file against its recorded sha256, which it returns.

    A file without a record gets one. In a shared cache that is read-only, a log line says that it cannot.

    Raises:
        ValueError: If the file or the record has changed.
        OSError: If one cannot be read.
    """
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    record = digest_path(path)
    if not record.exists():
        _log.warning("%s was not fetched by keras_mixer: recording its sha256 %s.", path, digest)
        try:
            write_digest(path, digest)
        except OSError as error:
            _log.warning("%s cannot be written, so that a change of the file will not be noticed: %s", record, error)
        return digest
    recorded = record.read_text(errors="replace").split(maxsplit=1)[:1]
    if recorded != [digest]:
        raise ValueError(
            f"{path} has changed since it was fetched: its sha256 is {digest}, but {record.name} says "
            f"{recorded[0] if recorded else 'nothing'}. Delete both files to fetch it again."
        )
    return digest


def check_cached(entry: WeightSet) -> int:
    """Reads the cached file of a published set in full and returns the number of values in it.

    Raises:
        ValueError: If its sha256 is not the recorded one, it cannot be parsed, has values that are not finite, or has
            a head of other classes than the registry says.
        OSError: If it cannot be read, or is not in the cache.
    """
    from keras_mixer.weights.reading.checkpoint import open_checkpoint

    path = cached_path(entry)
    verify(path)
    count = 0
    with open_checkpoint(path) as checkpoint:
        for name, array in checkpoint.arrays.items():
            if "float" not in array.dtype:
                raise ValueError(f"{path} holds {name}, but its dtype {array.dtype} is not that of weights.")
            array.check_size(name)
            values = array.read()
            if not np.isfinite(values).all():
                raise ValueError(f"{path} holds values in {name} that are not finite.")
            count += values.size
        if checkpoint.classes != entry.classes:
            raise ValueError(f"{path} has a head for {checkpoint.classes} classes instead of {entry.classes}.")
    return count
