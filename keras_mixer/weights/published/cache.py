"""Lists the published sets of weights, downloads their files and keeps them in a cache."""

import logging
import os
import re
from pathlib import Path

import numpy as np

from keras_mixer import hub
from keras_mixer.download import MIRROR_VARIABLE, cache_directory, cached_file, verify
from keras_mixer.extras import installed
from keras_mixer.models.catalogue import ARCHITECTURES, architectures, find_row, preprocessing_of
from keras_mixer.models.record import WeightSet
from keras_mixer.preprocessing import Preprocessing, preprocess_input  # noqa: F401 - public in keras_mixer.weights
from keras_mixer.weights.reading.formats import SUFFIXES, check_suffix

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

    Args:
        variant: Name of the variant, such as "mixer_b16".
        name: Name of the set, such as "imagenet21k"; or an address on the Hugging Face hub, hf://OWNER/REPO[/FILE],
            whose `config.json` describes the set.

    Raises:
        ValueError: If there is no such set; the message lists those that exist.
        OSError: If the hub cannot be reached.

    Example:
        >>> keras_mixer.weights.find("mixer_nano", "cifar10").preprocessing.image_size
        (32, 32)
    """
    if hub.is_address(name):
        return _set_on_hub(variant, name)
    for entry in available(variant):
        if entry.name == name:
            return entry
    title = f"{find_row(variant)[1].title} ({variant})" if variant in ARCHITECTURES else repr(variant)
    if known := ", ".join(entry.name for entry in available(variant)):
        raise ValueError(f"No set of weights {name!r} of {title} was published. Published sets: {known}.")
    variants = ", ".join(sorted({entry.variant for entry in available()}))
    raise ValueError(
        f"No weights of {title} were published, but {name!r} was asked for: pass the path of a checkpoint. "
        f"Variants with published weights: {variants}."
    )


def _set_on_hub(variant: str, name: str) -> WeightSet:
    address = hub.HubAddress.parse(name)
    config = address.config()
    usual = preprocessing_of(variant, (None, None, 3)) if variant in ARCHITECTURES else Preprocessing()
    try:
        stated = hub.preprocessing_in(config, usual)
        classes, names = int(config.get("num_classes") or 0), tuple(map(str, config.get("label_names") or ()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{hub.CONFIG} of hf://{address.repository} cannot be used: {error}") from error
    licence = f"see huggingface.co/{address.repository}"
    return WeightSet(variant, name, name, classes, f"huggingface.co/{address.repository}", licence, stated, "", names)


def set_of(variant: str, source) -> WeightSet | None:
    """Returns the published set that the argument `weights` of a constructor names; None for a path or None."""
    return None if source is None or is_path(source) else find(variant, source)


def is_path(source) -> bool:
    """Returns whether `source` is a path rather than the name of a set or an address on the hub.

    Raises ValueError if it cannot be any of them.
    """
    if not isinstance(source, (str, os.PathLike)):
        raise ValueError(f"Weights come from the name of a published set or a path, but got {source!r}.")
    # Names of sets have no dots. "mixer.h5" is therefore a path, and the error lists the suffixes that can be read.
    return isinstance(source, os.PathLike) or (not hub.is_address(source) and ("." in source or os.sep in source))


def cached_path(entry: WeightSet) -> Path:
    """Returns the path of a set's file, in a cache or in this package. The file may not exist yet."""
    path = (cache_directory() if entry.url else SHIPPED) / entry.file_name
    address = _address(entry)
    return path if address is None else address.cached() or path


def download(variant: str, name: str) -> Path:
    """Returns the file of a set of weights. Downloads it first if it is not in the cache.

    Args:
        variant: Name of the variant, such as "mixer_b16".
        name: Name of the set, such as "imagenet21k", or an address on the Hugging Face hub.

    Returns:
        The path of the file, whose sha256 was checked.

    Raises:
        ValueError: If there is no such set, or its file has changed.
        OSError: If the file cannot be downloaded.

    Example:
        >>> keras_mixer.weights.download("mixer_b16", "imagenet21k")
        PosixPath('/home/me/.keras/keras_mixer/mixer_b16-imagenet21k.npz')
    """
    return _fetched(find(variant, name))


def file_of(entry: WeightSet) -> Path:
    """Returns the file of `entry` as `download` does, and logs the note of the set."""
    path = _fetched(entry)
    if entry.note:
        _log.warning("The weights %s of %s: %s", entry.name, entry.variant, entry.note)
    return path


def _fetched(entry: WeightSet) -> Path:
    if address := _address(entry):
        return from_hub(address)
    if entry.url is None:
        verify(cached_path(entry))
        return cached_path(entry)
    return cached_file(entry.url, entry.file_name)


def from_hub(address: hub.HubAddress) -> Path:
    """Returns the file at an address on the Hugging Face hub after checking its sha256."""
    check_suffix(Path(address.file or hub.WEIGHTS))
    path = address.download(SUFFIXES)
    if hub.digest_in_name(path):
        verify(path)
    return path


def _address(entry: WeightSet) -> hub.HubAddress | None:
    """Returns the hub address of a set if `huggingface_hub` downloads it; None if this package does."""
    url = entry.url or ""
    if hub.is_address(url):
        return hub.HubAddress.parse(url)
    match = re.fullmatch(r"https://huggingface\.co/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", url)
    ours = os.environ.get(MIRROR_VARIABLE) or (cache_directory() / entry.file_name).is_file()
    return (
        None if ours or not match or not installed("huggingface_hub") else hub.HubAddress(match[1], match[3], match[2])
    )


def check_cached(entry: WeightSet) -> int:
    """Reads the whole cached file of a published set and returns the number of values in it.

    Raises ValueError if the file has changed, cannot be parsed or holds values that are not finite, or if the number of
    classes of its head differs from the registry's.
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
