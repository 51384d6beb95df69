"""The files of weights, in the cache or in this package, whose contents are checked at every use."""

import hashlib
import logging
import os
from pathlib import Path

from keras_mixer.files import remove_stale_partial_files
from keras_mixer.weights.registry import WeightSet, find
from keras_mixer.weights.transfer import digest_path, fetch, write_digest

SHIPPED = Path(__file__).parent / "shipped"

_log = logging.getLogger(__name__)


def cache_directory() -> Path:
    """The folder `keras_mixer` in Keras's own cache: in `KERAS_HOME`, or `~/.keras`."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "keras_mixer"


def cached_path(entry: WeightSet) -> Path:
    """Where the file of a set lies: in the cache, or would, or in this package."""
    return (cache_directory() if entry.url else SHIPPED) / entry.file_name


def download(variant: str, name: str) -> Path:
    """Returns the file of a set of weights; a published one is fetched first if it is not in the cache.

    Args:
        variant: Name as "mixer_b16".
        name: Name of the set, as "imagenet21k".

    Returns:
        The path of a file whose sha256 is the recorded one.

    Raises:
        ValueError: If there is no such set, or its file is not the one that was published.
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
    """Returns what `download` does, and logs what a user of the set should know before relying on it."""
    path, note = download(variant, name), find(variant, name).note
    if note:
        _log.warning("The weights %s of %s: %s", name, variant, note)
    return path


def cached_file(url: str, name: str) -> Path:
    """Returns the cached file `name`, checked against its recorded sha256; fetches `url` first if it is not there."""
    path = cache_directory() / name
    remove_stale_partial_files(path.parent)  # of downloads that were killed; they are large
    if path.is_file():
        verify(path)
    else:
        fetch(url, path)
    return path


def verify(path: Path) -> str:
    """Checks a cached file against its recorded sha256, which it records at the first sight of a hand-fetched file.

    A log line says where the sha256 cannot be recorded, as in a shared cache that is read-only.

    Returns:
        The sha256, in hexadecimal digits.

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
