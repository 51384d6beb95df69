"""Lists the published sets of weights, downloads their files and keeps them in a cache."""

import base64
import contextlib
import hashlib
import ipaddress
import logging
import os
import re
import urllib.parse
from pathlib import Path

import numpy as np

from keras_mixer import hub
from keras_mixer.extras import installed
from keras_mixer.files import remove_stale_partial_files, written_whole
from keras_mixer.models.catalogue import ARCHITECTURES, architectures, find_row, preprocessing_of
from keras_mixer.models.record import WeightSet
from keras_mixer.preprocessing import Preprocessing, preprocess_input  # noqa: F401 - public in keras_mixer.weights
from keras_mixer.progress import Progress
from keras_mixer.weights.reading.formats import SUFFIXES, check_suffix

InputPreprocessing = Preprocessing  # its name in version 0.1
SHIPPED = Path(__file__).parent.parent / "shipped"
MIRROR_VARIABLE = "KERAS_MIXER_WEIGHTS_BASE_URL"

_CHUNK = 1 << 20  # bytes
_TIMEOUT = (10, 60)  # seconds to connect, and between two packets

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
    asked = "" if name is None else f", but {name!r} was asked for"
    raise ValueError(
        f"No weights of {title} were published{asked}: pass the path of a checkpoint. "
        f"Variants with published weights: {variants}."
    )


def _set_on_hub(variant: str, name: str) -> WeightSet:
    address = hub.HubAddress.parse(name)
    config = address.config()
    usual = preprocessing_of(variant, (None, None, 3)) if variant in ARCHITECTURES else Preprocessing()
    try:
        stated = hub.preprocessing_of(config, usual)
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


def cache_directory() -> Path:
    """Returns the folder `keras_mixer` in Keras's own cache, which is `KERAS_HOME` or `~/.keras`."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "keras_mixer"


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
    """Returns the sha256 of a cached file; raises ValueError if it is not the recorded one.

    A file without a record gets one. If the cache is read-only, a warning is logged instead.
    """
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    record = digest_path(path)
    named = hub.digest_in_name(path)
    if named is None and not record.exists():
        _log.warning("%s was not fetched by keras_mixer: recording its sha256 %s.", path, digest)
        try:
            write_digest(path, digest)
        except OSError as error:
            _log.warning("%s cannot be written, so that a change of the file will not be noticed: %s", record, error)
        return digest
    keeper = record.name if named is None else f"its name in the hub's cache, {path.resolve()},"
    recorded = [named] if named else record.read_text(errors="replace").split(maxsplit=1)[:1]
    if recorded != [digest]:
        raise ValueError(
            f"{path} has changed since it was fetched: its sha256 is {digest}, but {keeper} says "
            f"{recorded[0] if recorded else 'nothing'}. Delete both files to fetch it again."
        )
    return digest


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


def published_or_mirrored(url: str) -> str:
    """Returns `url`, or its address on the mirror if one is set."""
    mirror = os.environ.get(MIRROR_VARIABLE, "").rstrip("/")
    if not mirror:
        return url
    parts = urllib.parse.urlsplit(mirror)
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname)):
        raise ValueError(
            f"{MIRROR_VARIABLE} must be an https address, or plain http on this machine, but is {mirror!r}."
        )
    return mirror + urllib.parse.urlsplit(url).path


def fetch(url: str, path: Path) -> str:
    """Downloads `url` to `path` and returns its sha256.

    The bytes go to a temporary file beside `path`. The file is renamed once it matches the hash that the server
    announced: the md5 in `x-goog-hash` or the sha256 from the Hugging Face hub. An interrupted download leaves no file.
    If two processes download at the same time, each downloads the whole file. An OSError names the address, the path
    where a file downloaded by hand belongs, and the variable that sets a mirror.
    """
    import requests

    address = published_or_mirrored(url)
    try:
        with written_whole(path, durable=True) as partial:
            with open(partial, "wb") as file:
                digest = _transfer(address, file, path.name)
            write_digest(path, digest)
    except requests.RequestException as error:
        raise OSError(
            f"Could not download {address} ({_reason(error)}). Try again, fetch it by hand to {path}, or set "
            f"{MIRROR_VARIABLE} to a mirror."
        ) from error
    return digest


def digest_path(path: Path) -> Path:
    """Returns the file that records the sha256 of `path`, in the format of `sha256sum`."""
    return path.with_name(path.name + ".sha256")


def write_digest(path: Path, digest: str) -> None:
    """Records the sha256 of `path` atomically."""
    with written_whole(digest_path(path)) as partial:
        partial.write_text(f"{digest}  {path.name}\n", encoding="utf-8")


def _transfer(address: str, file, label: str) -> str:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    retry = Retry(connect=1, read=2, status=3, backoff_factor=0.3, status_forcelist=(429, 500, 502, 503, 504))
    hashes = {"md5": hashlib.md5(usedforsecurity=False), "sha256": hashlib.sha256()}
    with requests.Session() as session, contextlib.ExitStack() as stack:
        log = logging.getLogger("urllib3.connectionpool")
        log.addFilter(_is_no_retry)  # the final error is raised anyway
        stack.callback(log.removeFilter, _is_no_retry)
        for scheme in ("https://", "http://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        # The announced length and hash are those of the uncompressed bytes.
        response = session.get(address, stream=True, timeout=_TIMEOUT, headers={"Accept-Encoding": "identity"})
        stack.enter_context(response)
        answers = (*response.history, response)
        if address.startswith("https://") and (plain := [a.url for a in answers if not a.url.startswith("https://")]):
            raise requests.RequestException(f"it was redirected to {plain[0]}, which is not https")
        response.raise_for_status()
        total = int(response.headers.get("Content-Length", 0))
        progress = stack.enter_context(Progress(label, total, f"{label}: byte", in_bytes=True))
        for chunk in response.iter_content(_CHUNK):  # an error if fewer bytes come than were announced
            file.write(chunk)
            for hash_ in hashes.values():
                hash_.update(chunk)
            progress.update(file.tell(), lambda: "")
        for name, announced in _announced_hashes(answers).items():
            if hashes[name].hexdigest() != announced:
                raise requests.RequestException(
                    f"its {name} should be {announced}, but that of the bytes received is {hashes[name].hexdigest()}"
                )
    return hashes["sha256"].hexdigest()


def _is_no_retry(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Retrying ")


def _announced_hashes(answers) -> dict[str, str]:
    hashes = {}
    # The hub announces the sha256 of a large file in the answer that redirects to its storage.
    for answer in answers:
        if md5 := re.search(r"md5=([A-Za-z0-9+/]{22}==)", answer.headers.get("x-goog-hash", "")):
            hashes["md5"] = base64.b64decode(md5[1]).hex()
        if sha256 := re.fullmatch(r'"?([0-9a-f]{64})"?', answer.headers.get("x-linked-etag", "")):
            hashes["sha256"] = sha256[1]
    return hashes


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _reason(error: Exception) -> str:
    """Returns the innermost cause as a short phrase, because `requests` nests the system's error several times."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answered {response.status_code} {response.reason}"
    cause: BaseException = error
    while inner := cause.__cause__ or cause.__context__:
        cause = inner
    return str(cause) or type(cause).__name__
