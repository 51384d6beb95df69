"""The client's side of TF Serving's REST interface, with the package requests."""

import base64
import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np
import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from keras_mixer import wire
from keras_mixer.serving.errors import ServingError, UnreachableError

_DIGITS = 14  # characters of the longest float32 and the comma after it


class RestTransport:
    """Calls one model at a REST address, which may end in `/v1`. `timeout` limits connecting and the answer each."""

    def __init__(
        self,
        url: str,
        model: str,
        version: int | None,
        label: str | None,
        *,
        timeout: float,
        headers: Mapping[str, str],
        credentials: Any,
    ):
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"A REST address begins with http:// or https://, but got {url!r}.")
        base = url.rstrip("/").removesuffix("/v1")
        choice = f"/versions/{version}" if version is not None else f"/labels/{quote(label, safe='')}" if label else ""
        self._address = f"{base}{wire.model_path(quote(model, safe=''))}{choice}"
        self._timeout = timeout
        self._session = requests.Session()
        self._session.headers.update(headers)
        if credentials is not None and not isinstance(credentials, str | os.PathLike):
            raise ValueError(f"Over REST, credentials is a file of certificates to trust, but got {credentials!r}.")
        self._verify = None if credentials is None else os.fspath(credentials)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=32))

    @staticmethod
    def size(value: np.ndarray | bytes) -> int:
        """Returns the largest number of bytes that an image may take in a request."""
        return value.size * _DIGITS if isinstance(value, np.ndarray) else len(value) * 4 // 3 + 16

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray | Sequence[bytes]]):
        """Returns the outputs of a signature: a dict by name, or the value itself if there is only one."""
        written = {
            name: value
            if isinstance(value, np.ndarray)
            else [{"b64": base64.b64encode(data).decode()} for data in value]
            for name, value in inputs.items()
        }
        body = _dump({"signature_name": signature, "inputs": written})
        return self._call("POST", ":predict", body)["outputs"]

    def status(self, timeout: float | None = None) -> list[dict]:
        """Returns each version's number, state and error, within at most `timeout` seconds."""
        return [
            {
                "version": int(row["version"]),
                "state": row["state"],
                "error": row.get("status", {}).get("error_message", ""),
            }
            for row in self._call("GET", "", timeout=timeout)["model_version_status"]
        ]

    def metadata(self) -> dict:
        """Returns the `/metadata` document."""
        return self._call("GET", "/metadata")

    def _call(self, method: str, path: str, body: bytes | None = None, timeout: float | None = None):
        seconds = self._timeout if timeout is None else min(timeout, self._timeout)
        headers = {"Content-Type": "application/json"} if body is not None else None
        try:
            response = self._session.request(
                method, self._address + path, data=body, headers=headers, timeout=seconds, verify=self._verify
            )
        except requests.Timeout:
            raise ServingError(f"{self._address} did not answer within {seconds:.3g} s.") from None
        except requests.RequestException as error:
            lost = isinstance(error, requests.ConnectionError) and not isinstance(error, requests.exceptions.SSLError)
            kind = UnreachableError if lost else ServingError
            raise kind(f"{self._address} cannot be reached: {error}") from None
        if response.request.method != method:  # most redirections turn a POST into a GET
            raise ServingError(
                f"{self._address} is redirected to {response.url}: give the client an address that begins as that.",
                response.history[0].status_code,
            )
        try:
            document = response.json()
        except requests.JSONDecodeError:
            document = None
        if response.status_code != 200:
            message = document.get("error") if isinstance(document, dict) else None
            wait = Retry().get_retry_after(response.raw)
            raise ServingError(str(message or response.reason or response.text[:200]), response.status_code, wait)
        if not isinstance(document, dict):
            raise ServingError(f"{self._address} answered something other than a JSON object: is it a TF Serving?")
        return document

    def close(self) -> None:
        """Closes the connections."""
        self._session.close()


def _dump(body: dict) -> bytes:
    """Writes JSON, with orjson if it is installed, because orjson writes arrays several times faster."""
    arrays = [value for value in body["inputs"].values() if isinstance(value, np.ndarray)]
    if all(np.isfinite(array).all() for array in arrays):  # orjson writes NaN as null
        with contextlib.suppress(ImportError):
            import orjson

            return orjson.dumps(body, default=np.ndarray.tolist, option=orjson.OPT_SERIALIZE_NUMPY)
    return json.dumps(body, default=np.ndarray.tolist).encode()
