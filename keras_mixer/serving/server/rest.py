"""The server's REST: TF Serving's predict, status, metadata and metrics, and the Open Inference Protocol."""

import asyncio
import json
import logging
import re
from collections.abc import Mapping
from contextlib import contextmanager
from urllib.parse import unquote

import numpy as np
from aiohttp import web
from prometheus_client import generate_latest

from keras_mixer import wire
from keras_mixer.serving.errors import RequestError, invalid
from keras_mixer.serving.server import front_page
from keras_mixer.serving.server.open_inference import rest as open_inference
from keras_mixer.serving.server.servable import Signature
from keras_mixer.serving.server.service import ModelSpec, PredictService, version_number
from keras_mixer.serving.server.tensors import from_json, parse_json, to_json

_MODEL = wire.model_path(r"(?P<name>[^/:]+)") + r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_PREDICT = re.compile(_MODEL + r":(?P<method>predict|classify|regress)", re.IGNORECASE)
_READ = re.compile(_MODEL + r"(?P<metadata>/metadata)?", re.IGNORECASE)
_KEYS = ("signature_name", "instances", "inputs")
_CORS_HEADERS = {"Access-Control-Allow-Methods": "POST, GET", "Access-Control-Allow-Headers": "Content-Type"}
_log = logging.getLogger("keras_mixer.serving")


class RestHandler:
    """Answers every HTTP request of the server. Errors have TF Serving's form, `{"error": ...}`."""

    def __init__(self, service: PredictService, cors: str | None = None):
        self._service, self._cors = service, cors
        self.draining = False  # while the server stops, no connection is kept for a further request

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        try:
            response = await self._route(request)
        except RequestError as error:
            response = _error(error)
        except RecursionError:
            response = _error(invalid("The request's JSON is nested too deep."))
        except ConnectionError:  # the client has gone, and no answer would reach it
            raise
        except Exception:
            _log.exception("%s %s failed", request.method, request.rel_url.raw_path)
            response = _error(RequestError("INTERNAL", "The server failed on this request; its log has the reason."))
        if self._cors:
            response.headers.update(_CORS_HEADERS | {"Access-Control-Allow-Origin": self._cors})
            if open_inference.is_open_inference(request.rel_url.raw_path):
                response.headers.update(open_inference.CORS_HEADERS)
        if self.draining:
            response.force_close()
        return response

    async def _route(self, request: web.BaseRequest) -> web.Response:
        path = request.rel_url.raw_path
        if request.method == "POST" and (match := _PREDICT.fullmatch(path)):
            if match["method"].lower() != "predict":
                raise RequestError("UNIMPLEMENTED", f"This server answers :predict, not :{match['method']}.")
            return await self._predict(_model_spec(match), await self._body(request))
        if request.method == "GET" and path == wire.METRICS_PATH:
            return web.Response(body=generate_latest(self._service.metrics.registry), content_type="text/plain")
        if request.method == "GET" and (match := _READ.fullmatch(path)):
            spec = _model_spec(match)
            return _json(self._metadata(spec) if match["metadata"] else self._status(spec))
        is_v1, is_v2 = path.lower().startswith("/v1/"), open_inference.is_open_inference(path)
        if request.method == "OPTIONS" and (is_v1 or is_v2):  # a browser's preflight
            if re.match("https?://", request.headers.get("Origin", "")):
                return web.Response()
            raise RequestError("FAILED_PRECONDITION", "Origin header is missing in CORS preflight")
        if is_v2:
            body = await self._body(request) if request.method == "POST" else b""
            return await open_inference.answer(self._service, request.method, path, request.headers, body)
        if request.method in ("GET", "HEAD") and (page := front_page.answer(path, self._service.manager.models)):
            return page
        if not is_v1:
            raise RequestError(
                "NOT_FOUND", f"There is nothing at {path[:200]}; models are at {wire.model_path('NAME')}."
            )
        raise invalid(f"Malformed request: {request.method} {path[:200]}")

    async def _body(self, request: web.BaseRequest) -> bytes:
        limit, seconds = self._service.limits.max_body_bytes, self._service.limits.read_timeout
        too_large = RequestError(
            "RESOURCE_EXHAUSTED", f"The request's body is larger than the {limit:,} bytes accepted.", http_status=413
        )
        if (request.content_length or 0) > limit:
            raise too_large
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            async with asyncio.timeout(seconds):
                return await request.clone(client_max_size=limit).read()
        except web.HTTPRequestEntityTooLarge:
            raise too_large from None
        except TimeoutError:
            message = f"The request's body did not arrive within {seconds:g} seconds."
            raise RequestError("DEADLINE_EXCEEDED", message, http_status=408) from None
        except web.RequestPayloadError as error:
            raise invalid(f"The request's body cannot be read: {error}") from None

    async def _predict(self, spec: ModelSpec, body: bytes) -> web.Response:
        document = await self._service.offload(len(body), parse_json, body)
        with _misspelt(document):
            return await self._answer(spec, document, len(body))

    async def _answer(self, spec: ModelSpec, document: dict, size: int) -> web.Response:
        if ("instances" in document) == ("inputs" in document):
            raise invalid("The request must have either 'instances' or 'inputs'.")
        signature_name = document.get("signature_name", "")
        if not isinstance(signature_name, str):
            raise invalid("'signature_name' must be a string.")
        rows = "instances" in document

        def read(signature: Signature) -> Mapping[str, np.ndarray]:
            # Taken out, so that the document does not stay in memory beside its arrays.
            value = document.pop("instances" if rows else "inputs")
            return _arrays(_columns(value, signature) if rows else value, signature)

        _, _, outputs = await self._service.predict(spec, signature_name, read, size=size, entrypoint="REST")
        written_size = sum(array.nbytes for array in outputs.values())
        written = await self._service.offload(written_size, lambda: to_json(outputs, rows=rows))
        return web.Response(body=written, content_type="application/json")

    def _status(self, spec: ModelSpec) -> dict:
        return {
            "model_version_status": [
                {
                    "version": str(number),
                    "state": state,
                    "status": {"error_code": "UNKNOWN" if error else "OK", "error_message": error},
                }
                for number, state, error in self._service.manager.status(*spec)
            ]
        }

    def _metadata(self, spec: ModelSpec) -> dict:
        with self._service.manager.use(*spec) as servable:
            return wire.metadata(servable.name, servable.version, servable.signature_defs)


def _model_spec(match: re.Match) -> ModelSpec:
    version = version_number(match["version"]) if match["version"] else None
    return ModelSpec(unquote(match["name"]), version, unquote(match["label"]) if match["label"] else None)


@contextmanager
def _misspelt(document: dict):
    """Adds to an error which key of a request may be misspelt. TF Serving ignores the keys that it does not know."""
    keys = set(document) - set(_KEYS)
    try:
        yield
    except RequestError as error:
        for key in sorted(keys):
            plain = re.sub(r"[^a-z]", "", key.lower())
            if len(plain) > 4 and (meant := next((name for name in _KEYS if plain in name.replace("_", "")), "")):
                raise RequestError(
                    error.code, f"{error.message} The key {key[:40]!r} is ignored: write {meant!r}.", error.http_status
                ) from None
        raise


def _is_named(value) -> bool:
    """Says whether a value gives inputs by name. An object with only the key "b64" is one string."""
    return isinstance(value, dict) and set(value) != {"b64"}


def _columns(instances, signature: Signature):
    """Turns rows that name their inputs into one list for each input, and leaves other rows as they are."""
    if not isinstance(instances, list) or not instances:
        raise invalid("'instances' must be a list of one value or more.")
    if not any(map(_is_named, instances)):
        return instances
    for number, instance in enumerate(instances):
        if not _is_named(instance) or instance.keys() != signature.inputs.keys():
            hint = signature.hint(instance) if _is_named(instance) else ""
            keys = f"{list(signature.inputs)}.{hint}"
            raise invalid(f"Element {number} of 'instances' must be an object with the keys {keys}")
    return {name: [instance[name] for instance in instances] for name in signature.inputs}


def _arrays(value, signature: Signature) -> dict[str, np.ndarray]:
    """Reads an object with each input, or the value of the only input."""
    if not _is_named(value):
        if len(signature.inputs) != 1:
            raise invalid(f"The request must name the inputs {sorted(signature.inputs)}.")
        value = dict.fromkeys(signature.inputs, value)
    signature.check_names(value, further=True)
    return {name: from_json(value[name], spec) for name, spec in signature.inputs.items()}


def _json(body: dict, status: int = 200) -> web.Response:
    return web.Response(body=json.dumps(body, indent=1).encode(), content_type="application/json", status=status)


def _error(error: RequestError) -> web.Response:
    response = _json({"error": error.message}, error.http_status)
    if error.http_status in (408, 413):  # do not wait for the rest of the body
        response.force_close()
    return response
