"""Files from the network: fetched once, checked by their hash, and kept in a cache."""

import base64
import contextlib
import hashlib
import ipaddress
import logging
import os
import re
import urllib.parse
from pathlib import Path

from keras_mixer import hub
from keras_mixer.files import remove_stale_partial_files, written_whole
from keras_mixer.progress import Progress

MIRROR_VARIABLE = "KERAS_MIXER_WEIGHTS_BASE_URL"

_CHUNK = 1 << 20  # bytes
_TIMEOUT = (10, 60)  # seconds to connect, and between two packets

_log = logging.getLogger(__name__)


def cache_directory() -> Path:
    """Returns the folder `keras_mixer` in Keras's own cache, which is `KERAS_HOME` or `~/.keras`."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "keras_mixer"


def cached_file(url: str, name: str, *, sha256: str | None = None, mirror: str = MIRROR_VARIABLE) -> Path:
    """Returns the cached file `name` after checking its sha256; fetches it from `url` if it is not there.

    Args:
        url: Where it is published.
        name: Its name in the cache.
        sha256: What its sha256 must be; None takes the hash that was recorded when it was fetched.
        mirror: The environment variable that may hold the address of a mirror.
    """
    path = cache_directory() / name
    remove_stale_partial_files(path.parent)  # large files of downloads that were killed
    if path.is_file():
        verify(path, sha256)
    else:
        fetch(url, path, sha256=sha256, mirror=mirror)
    return path


def verify(path: Path, sha256: str | None = None) -> str:
    """Returns the sha256 of a cached file; raises ValueError if it is neither `sha256` nor the recorded one.

    A file without a record gets one. If the cache is read-only, a log line says that it cannot be written.
    """
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    record = digest_path(path)
    named = sha256 or hub.digest_in_name(path)
    if named is None and not record.exists():
        _log.warning("%s was not fetched by keras_mixer: recording its sha256 %s.", path, digest)
        try:
            write_digest(path, digest)
        except OSError as error:
            _log.warning("%s cannot be written, so that a change of the file will not be noticed: %s", record, error)
        return digest
    recorded = [named] if named else record.read_text(errors="replace").split(maxsplit=1)[:1]
    if recorded != [digest]:
        if sha256:
            other = f"{sha256} was expected. Delete it"
        else:
            keeper = f"its name in the hub's cache, {path.resolve()}," if named else record.name
            other = f"{keeper} says {recorded[0] if recorded else 'nothing'}. Delete both files"
        raise ValueError(
            f"{path} has changed since it was fetched: its sha256 is {digest}, but {other} to fetch it again."
        )
    return digest


def published_or_mirrored(url: str, variable: str) -> str:
    """Returns `url`, or its address on the mirror that an environment variable names."""
    mirror = os.environ.get(variable, "").rstrip("/")
    if not mirror:
        return url
    parts = urllib.parse.urlsplit(mirror)
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname)):
        raise ValueError(f"{variable} must be an https address, or plain http on this machine, but is {mirror!r}.")
    return mirror + urllib.parse.urlsplit(url).path


def fetch(url: str, path: Path, *, sha256: str | None = None, mirror: str = MIRROR_VARIABLE) -> str:
    """Downloads `url` to `path` and returns its sha256.

    The bytes go to a temporary file beside `path`, which gets its final name in one step once it matches `sha256` and
    the hash that the server announced: the md5 of `x-goog-hash` or the sha256 of the Hugging Face hub. An interrupted
    transfer leaves nothing behind. Two processes at once each fetch a whole file. The message of an OSError names the
    address, the path to put a file that was fetched by hand, and the variable that points at a mirror.
    """
    import requests

    address = published_or_mirrored(url, mirror)
    try:
        with written_whole(path, durable=True) as partial:
            with open(partial, "wb") as file:
                digest = _transfer(address, file, path.name, sha256)
            write_digest(path, digest)
    except requests.RequestException as error:
        raise OSError(
            f"Could not download {address} ({_reason(error)}). Try again, fetch it by hand to {path}, or set "
            f"{mirror} to a mirror."
        ) from error
    return digest


def digest_path(path: Path) -> Path:
    """Returns the file that records the sha256 of `path`, in the format of `sha256sum`."""
    return path.with_name(path.name + ".sha256")


def write_digest(path: Path, digest: str) -> None:
    """Records the sha256 of `path`, in one step."""
    with written_whole(digest_path(path)) as partial:
        partial.write_text(f"{digest}  {path.name}\n", encoding="utf-8")


def _transfer(address: str, file, label: str, sha256: str | None) -> str:
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
        expected = _announced_hashes(answers) | ({"sha256": sha256} if sha256 else {})
        for name, digest in expected.items():
            if hashes[name].hexdigest() != digest:
                raise requests.RequestException(
                    f"its {name} should be {digest}, but that of the bytes received is {hashes[name].hexdigest()}"
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
    """Returns the innermost cause in one short phrase, because requests wraps the system's reason several times."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answered {response.status_code} {response.reason}"
    cause: BaseException = error
    while inner := cause.__cause__ or cause.__context__:
        cause = inner
    return str(cause) or type(cause).__name__
