"""The protocol over REST, with tensors as JSON or as binary values that follow the JSON."""

import base64
import json
import re
from collections.abc import Mapping
from urllib.parse import unquote

import numpy as np
import orjson
from aiohttp import web

from keras_mixer.serving.errors import RequestError, invalid
from keras_mixer.serving.server.open_inference.protocol import (
    InputTensor,
    datatype_of,
    model_metadata,
    model_spec,
    server_metadata,
    write_raw,
)
from keras_mixer.serving.server.servable import Signature
from keras_mixer.serving.server.service import ModelSpec, PredictService, select_outputs
from keras_mixer.serving.server.tensors import TensorSpec, from_json, parse_json

_HEADER_LENGTH = "Inference-Header-Content-Length"
# With `--cors`, pages may send and read the header of binary tensors.
CORS_HEADERS = {
    "Access-Control-Allow-Headers": f"Content-Type, {_HEADER_LENGTH}",
    "Access-Control-Expose-Headers": _HEADER_LENGTH,
}
_MODEL = re.compile(r"/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?(?:/(?P<action>ready|infer))?")


def is_open_inference(path: str) -> bool:
    """Returns whether an address belongs to the protocol."""
    return path == "/v2" or path.startswith("/v2/")


async def answer(
    service: PredictService, method: str, path: str, headers: Mapping[str, str], body: bytes
) -> web.Response:
    """Answers a request to an address of the protocol."""
    method = "GET" if method == "HEAD" else method  # aiohttp leaves out the body
    match = _MODEL.fullmatch(path)
    action = match["action"] if match else None
    if method == "POST" and match and action == "infer":
        return await _infer(service, model_spec(unquote(match["name"]), match["version"] or ""), headers, body)
    if method == "GET" and path in ("/v2", "/v2/"):
        return _json(server_metadata())
    if method == "GET" and path in ("/v2/health/live", "/v2/health/ready"):
        return _json({path.rpartition("/")[2]: True})
    if method == "GET" and match and action != "infer":
        spec = model_spec(unquote(match["name"]), match["version"] or "")
        with service.manager.use(*spec) as servable:
            return _json({"name": spec.name, "ready": True} if action else model_metadata(service, servable))
    raise RequestError("NOT_FOUND", f"The Open Inference Protocol has no {method} {path[:200]}.")


async def _infer(service: PredictService, spec: ModelSpec, headers: Mapping[str, str], body: bytes) -> web.Response:
    length = headers.get(_HEADER_LENGTH, str(len(body)))
    if not length.isdecimal() or len(length) > 18 or int(length) > len(body):
        raise invalid(f"{_HEADER_LENGTH} must be a number of bytes up to {len(body)}, but got {length[:40]!r}.")
    request = await service.offload(len(body), parse_json, body[: int(length)])
    inputs, wanted = _tensors_by_name(request, "inputs"), _tensors_by_name(request, "outputs")
    if not inputs:
        raise invalid("'inputs' must be a list of one tensor or more.")
    parameters = _parameters(request, "the request")
    if isinstance(request.get("id"), (list, dict)):
        raise invalid("'id' must be a string.")

    def read(signature: Signature) -> dict[str, np.ndarray]:
        signature.check_names(inputs)
        return _read_inputs(inputs, memoryview(body)[int(length) :])

    signature_name = parameters.get("signature_name") or frozenset(inputs)
    if not isinstance(signature_name, (str, frozenset)):
        raise invalid("The parameter 'signature_name' must be a string.")
    version, _, outputs = await service.predict(spec, signature_name, read, size=len(body), entrypoint="REST")
    outputs = select_outputs(outputs, wanted)
    binary_by_default = bool(parameters.get("binary_data_output"))
    as_binary = {
        name: bool(_parameters(wanted.get(name, {}), name).get("binary_data", binary_by_default)) for name in outputs
    }
    answer = {"model_name": spec.name, "model_version": str(version)}
    if "id" in request:
        answer["id"] = request["id"]
    size = sum(array.nbytes for array in outputs.values())
    return await service.offload(size, _response, answer, outputs, as_binary)


def _response(answer: dict, outputs: Mapping[str, np.ndarray], as_binary: Mapping[str, bool]) -> web.Response:
    """Writes the outputs into the JSON `answer`, or as binary values behind it."""
    rows, binary = [], []
    for name, array in outputs.items():
        row = {"name": name, "datatype": datatype_of(name, array), "shape": list(array.shape)}
        if as_binary[name]:
            binary.append(write_raw(array))
            rows.append({**row, "parameters": {"binary_data_size": len(binary[-1])}})
        else:
            rows.append({**row, "data": _write_data(array)})
    header = orjson.dumps({**answer, "outputs": rows})
    if not binary:
        return web.Response(body=header, content_type="application/json")
    return web.Response(
        body=b"".join([header, *binary]),
        content_type="application/octet-stream",
        headers={_HEADER_LENGTH: str(len(header))},
    )


def _parameters(holder: dict, what: str) -> dict:
    """Returns the parameters of a request or a tensor."""
    parameters = holder.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise invalid(f"'parameters' must be an object, but those of {what} are not.")
    return parameters


def _tensors_by_name(request: dict, key: str) -> dict[str, dict]:
    tensors = request.get(key) or []
    if not isinstance(tensors, list) or not all(isinstance(tensor, dict) for tensor in tensors):
        raise invalid(f"{key!r} must be a list of objects.")
    by_name = {}
    for tensor in tensors:
        name = tensor.get("name")
        if not isinstance(name, str) or name in by_name:
            raise invalid(f"Each of {key!r} must have a name of its own.")
        _parameters(tensor, name)
        by_name[name] = tensor
    return by_name


def _read_inputs(inputs: Mapping[str, dict], binary: memoryview) -> dict[str, np.ndarray]:
    """Reads the inputs from their JSON, or from `binary`, which holds binary values in the order of the inputs."""
    arrays = {}
    for name, tensor in inputs.items():
        size = _parameters(tensor, name).get("binary_data_size")
        if size is None:
            arrays[name] = _read_data(tensor)
        elif isinstance(size, int) and 0 <= size <= len(binary):
            arrays[name] = _declaration(tensor).array_from_raw(binary[:size])
            binary = binary[size:]
        else:
            raise invalid(f"Input {name!r} has a binary_data_size of {size!r}, but {len(binary)} bytes are left.")
    return arrays


def _declaration(tensor: dict) -> InputTensor:
    name, shape = tensor["name"], tensor.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int for size in shape):
        raise invalid(f"Input {name!r} must have a shape, a list of whole numbers, but got {shape!r:.80}.")
    return InputTensor(name, tensor.get("datatype"), tuple(shape))  # type: ignore[arg-type]


def _read_data(tensor: dict) -> np.ndarray:
    """Reads the values of a JSON tensor, flat or nested. Strings are text, or base64 if the parameters say so."""
    declaration = _declaration(tensor)
    if "data" not in tensor:
        raise invalid(f"Input {declaration.name!r} has neither 'data' nor the parameter 'binary_data_size'.")
    data = tensor["data"]
    if declaration.datatype == "BYTES" and _parameters(tensor, declaration.name).get("content_type") == "base64":
        data = _mark_base64(data)
    values = from_json(data, TensorSpec(declaration.name, declaration.dtype, None))
    return declaration.array(values.ravel())


def _mark_base64(data):
    """Wraps strings as TF Serving's JSON marks base64, `{"b64": ...}`."""
    if isinstance(data, list):
        return [_mark_base64(each) for each in data]
    return {"b64": data} if isinstance(data, str) else data


def _write_data(array: np.ndarray) -> list:
    if array.dtype.kind == "O":
        return [_text(value) for value in array.ravel()]
    return array.ravel().tolist()  # orjson writes NaN and infinity, which JSON does not have, as null


def _text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


def _json(answer: dict) -> web.Response:
    return web.Response(body=json.dumps(answer).encode(), content_type="application/json")
