"""Downloads a published file into the cache: whole, checked and under its final name, or not at all."""

import base64
import contextlib
import hashlib
import ipaddress
import logging
import os
import re
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from keras_mixer.files import written_whole

MIRROR_VARIABLE = "KERAS_MIXER_WEIGHTS_BASE_URL"

_CHUNK = 1 << 20  # bytes
_TIMEOUT = (10, 60)  # seconds to connect, and between two packets


def published_or_mirrored(url: str) -> str:
    """Returns `url`, or its address on the mirror, which replaces `https://host`.

    Raises:
        ValueError: If the mirror is neither https nor plain http on this machine.
    """
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

    The bytes go to a temporary file beside `path`, which gets its final name in one step once it matches what the
    server announced: its length, and the md5 of `x-goog-hash` or the sha256 of the Hugging Face hub. An interrupted
    transfer leaves nothing behind. Two processes at once each fetch a whole file.

    Raises:
        OSError: If the file cannot be fetched or does not match. The message names the address, the path for a file
            fetched by hand, and the variable that points at a mirror.
        ValueError: If the mirror is neither https nor plain http on this machine.
    """
    import requests

    address = published_or_mirrored(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with written_whole(path, durable=True) as partial:
            with open(partial, "wb") as file:
                digest = _transfer(address, file, path.name)
            write_digest(path, digest)
    except requests.RequestException as error:
        raise OSError(
            f"Could not download {address} ({_reason(error)}). Fetch it by hand to {path}, or set {MIRROR_VARIABLE} "
            "to a mirror."
        ) from error
    except _BadTransferError as error:
        raise OSError(
            f"The download of {address} went wrong: {error}. Try again, fetch it by hand to {path}, or set "
            f"{MIRROR_VARIABLE} to a mirror."
        ) from error
    return digest


def digest_path(path: Path) -> Path:
    """Returns the file that records the sha256 of `path`, in the format of `sha256sum`."""
    return path.with_name(path.name + ".sha256")


def write_digest(path: Path, digest: str) -> None:
    """Records the sha256 of `path`, in one step."""
    with written_whole(digest_path(path)) as partial:
        partial.write_text(f"{digest}  {path.name}\n", encoding="utf-8")


class _BadTransferError(Exception):
    """The bytes that arrived are not those that the server announced."""


@contextlib.contextmanager
def _silent_retries() -> Iterator[None]:
    """Keeps urllib3 from logging a warning for each retry; the final error is raised anyway."""
    log = logging.getLogger("urllib3.connectionpool")

    def says_more(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Retrying ")

    log.addFilter(says_more)
    try:
        yield
    finally:
        log.removeFilter(says_more)


def _transfer(address: str, file, label: str) -> str:
    import requests
    from requests.adapters import HTTPAdapter
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from urllib3.util import Retry

    retry = Retry(connect=1, read=2, status=3, backoff_factor=0.3, status_forcelist=(429, 500, 502, 503, 504))
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with requests.Session() as session, contextlib.ExitStack() as stack:
        stack.enter_context(_silent_retries())
        session.mount("https://", HTTPAdapter(max_retries=retry))
        session.mount("http://", HTTPAdapter(max_retries=retry))
        # The announced length and hash are those of the uncompressed bytes.
        response = stack.enter_context(
            session.get(address, stream=True, timeout=_TIMEOUT, headers={"Accept-Encoding": "identity"})
        )
        _refuse_insecure(address, response)
        response.raise_for_status()
        length = int(response.headers["Content-Length"]) if "Content-Length" in response.headers else None
        progress = stack.enter_context(
            Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal)
        )
        task = progress.add_task(label, total=length)
        hashes = {"md5": hashlib.md5(usedforsecurity=False), "sha256": hashlib.sha256()}
        received = 0
        for chunk in response.iter_content(_CHUNK):
            file.write(chunk)
            received += len(chunk)
            for hash_ in hashes.values():
                hash_.update(chunk)
            progress.advance(task, len(chunk))
        if length is not None and received != length:
            raise _BadTransferError(f"{length} bytes were announced and {received} came")
        for name, announced in _announced_hashes(response).items():
            if hashes[name].hexdigest() != announced:
                raise _BadTransferError(
                    f"its {name} should be {announced}, but that of the bytes received is {hashes[name].hexdigest()}"
                )
    return hashes["sha256"].hexdigest()


def _announced_hashes(response) -> dict[str, str]:
    hashes = {}
    md5 = re.search(r"md5=([A-Za-z0-9+/]{22}==)", response.headers.get("x-goog-hash", ""))
    if md5:
        hashes["md5"] = base64.b64decode(md5[1]).hex()
    # The hub announces the sha256 of a large file in the answer that redirects to its storage.
    for answer in (*response.history, response):
        sha256 = re.fullmatch(r'"?([0-9a-f]{64})"?', answer.headers.get("x-linked-etag", ""))
        if sha256:
            hashes["sha256"] = sha256[1]
    return hashes


def _refuse_insecure(address: str, response) -> None:
    if address.startswith("https://"):
        for answer in (*response.history, response):
            if not answer.url.startswith("https://"):
                raise _BadTransferError(f"it was redirected to {answer.url}, which is not https")


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _reason(error: Exception) -> str:
    """Returns the innermost cause in one short phrase, because requests wraps the system's reason several times."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answered {response.status_code} {response.reason}"
    cause: BaseException = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__ or cause
    return str(cause) or type(cause).__name__
