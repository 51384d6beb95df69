"""The Open Inference Protocol (KServe v2) over REST and gRPC, for the clients of KServe, Triton and OpenVINO.

The protocol does not have signatures. The parameter `signature_name` of a request selects the signature; without it,
the names of the inputs do. REST supports the extension for binary tensors.
"""

import base64
import importlib.metadata
import json
import math
import re
import struct
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np
import orjson
from aiohttp import web

from keras_mixer.extras import installed
from keras_mixer.serving.errors import RequestError, invalid
from keras_mixer.serving.server.servable import Servable, Signature
from keras_mixer.serving.server.service import ModelSpec, PredictService
from keras_mixer.serving.server.tensors import TensorSpec, from_json, parse_json

_TYPES = {
    "BOOL": np.dtype(bool),
    **{f"{kind}{bits}": np.dtype(f"{kind.lower()}{bits}") for kind in ("INT", "UINT") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    "BYTES": np.dtype(object),
}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}
# The field of gRPC's InferTensorContents that holds values of each type. float16 comes only as raw bytes.
_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_HEADER_LENGTH = "Inference-Header-Content-Length"
_MODEL = re.compile(r"/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?(?:/(?P<action>ready|infer))?")
_PACKAGE = "keras_mixer"


def is_open_inference(path: str) -> bool:
    """Returns whether an address belongs to the protocol."""
    return path == "/v2" or path.startswith("/v2/")


async def answer_rest(
    service: PredictService, method: str, path: str, headers: Mapping[str, str], body: bytes
) -> web.Response:
    """Answers a request to an address of the protocol."""
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


def server_metadata() -> dict:
    """Returns the description of the server."""
    return {"name": _PACKAGE, "version": importlib.metadata.version(_PACKAGE), "extensions": ["binary_tensor_data"]}


def model_metadata(service: PredictService, servable: Servable) -> dict:
    """Returns the description of a model: the inputs and outputs of its default signature."""
    signature = servable.signature("")
    return {
        "name": servable.name,
        "versions": [str(n) for n, state, _ in service.manager.status(servable.name) if state == "AVAILABLE"],
        "platform": "tensorflow_savedmodel",
        "inputs": [_described(spec) for spec in signature.inputs.values()],
        "outputs": [_described(spec) for spec in signature.outputs.values()],
    }


def _described(spec: TensorSpec) -> dict:
    shape = [-1 if size is None else size for size in spec.shape or ()]
    return {"name": spec.name, "datatype": _NAMES.get(spec.dtype, spec.type), "shape": shape}


def model_spec(name: str, version: str) -> ModelSpec:
    """Returns the model that a request names. `version` is a number or a label; empty means the newest version."""
    if not version:
        return ModelSpec(name)
    if version.isascii() and version.isdigit():
        if len(version) > 18:
            raise invalid(f"There is no version {version[:40]}.")
        return ModelSpec(name, int(version))
    return ModelSpec(name, label=version)


# REST


async def _infer(service: PredictService, spec: ModelSpec, headers: Mapping[str, str], body: bytes) -> web.Response:
    length = headers.get(_HEADER_LENGTH, str(len(body)))
    if not length.isdigit() or int(length) > len(body):
        raise invalid(f"{_HEADER_LENGTH} must be a number of bytes up to {len(body)}, but got {length[:40]!r}.")
    request = await service.offload(len(body), _parsed, body[: int(length)])
    inputs, wanted = _named(request, "inputs"), _named(request, "outputs")
    if not inputs:
        raise invalid("'inputs' must be a list of one tensor or more.")
    parameters = request.get("parameters") or {}

    def read(signature: Signature) -> dict[str, np.ndarray]:
        signature.check_names(inputs)
        rest, arrays = memoryview(body)[int(length) :], {}
        for name, tensor in inputs.items():  # binary values follow the JSON in the order of the tensors
            size = (tensor.get("parameters") or {}).get("binary_data_size")
            if size is None:
                arrays[name] = _from_data(tensor)
            elif isinstance(size, int) and 0 <= size <= len(rest):
                arrays[name] = from_raw(rest[:size], _tensor(tensor))
                rest = rest[size:]
            else:
                raise invalid(f"Input {name!r} has a binary_data_size of {size!r}, but {len(rest)} bytes are left.")
        return arrays

    signature_name = parameters.get("signature_name") or frozenset(inputs)
    if not isinstance(signature_name, (str, frozenset)):
        raise invalid("The parameter 'signature_name' must be a string.")
    version, _, outputs = await service.predict(spec, signature_name, read, size=len(body), entrypoint="REST")
    outputs = selected(outputs, wanted)
    rows, binary = [], []
    for name, array in outputs.items():
        asked = (wanted.get(name, {}).get("parameters") or {}).get("binary_data")
        row = {"name": name, "datatype": _datatype(name, array), "shape": list(array.shape)}
        if asked or (asked is None and parameters.get("binary_data_output")):
            binary.append(to_raw(array))
            rows.append({**row, "parameters": {"binary_data_size": len(binary[-1])}})
        else:
            rows.append({**row, "data": _to_data(array)})
    answer = {"model_name": spec.name, "model_version": str(version), "outputs": rows}
    if "id" in request:
        answer["id"] = request["id"]
    size = sum(array.nbytes for array in outputs.values())
    header = await service.offload(size, orjson.dumps, answer)
    response = web.Response(body=b"".join([header, *binary]), content_type="application/json")
    if binary:
        response.content_type = "application/octet-stream"
        response.headers[_HEADER_LENGTH] = str(len(header))
    return response


class _Tensor(NamedTuple):
    """The name, type and shape that a request gives for a tensor."""

    name: str
    datatype: str
    shape: tuple[int, ...]


def _parsed(body: bytes) -> dict:
    request = parse_json(body)
    if not isinstance(request.get("parameters") or {}, dict):
        raise invalid("'parameters' must be an object.")
    return request


def _named(request: dict, key: str) -> dict[str, dict]:
    """Returns the tensors of a request by their names."""
    tensors = request.get(key) or []
    if not isinstance(tensors, list) or not all(isinstance(tensor, dict) for tensor in tensors):
        raise invalid(f"{key!r} must be a list of objects.")
    named = {}
    for tensor in tensors:
        name = tensor.get("name")
        if not isinstance(name, str) or name in named or not isinstance(tensor.get("parameters") or {}, dict):
            raise invalid(f"Each of {key!r} must have a name of its own, and parameters that are an object.")
        named[name] = tensor
    return named


def _tensor(tensor: dict) -> _Tensor:
    name, datatype, shape = tensor["name"], tensor.get("datatype"), tensor.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int for size in shape):
        raise invalid(f"Input {name!r} must have a shape, a list of whole numbers, but got {shape!r:.80}.")
    return _checked(name, datatype, shape)


def _checked(name: str, datatype, shape) -> _Tensor:
    if not isinstance(datatype, str) or datatype not in _TYPES:
        raise invalid(f"Input {name!r} must have a datatype of {', '.join(_TYPES)}, but got {datatype!r:.40}.")
    if any(size < 0 for size in shape):
        raise invalid(f"Input {name!r} declares a shape that is not accepted: {list(shape)}.")
    return _Tensor(name, datatype, tuple(shape))


def _from_data(tensor: dict) -> np.ndarray:
    """Reads the values of a JSON tensor, flat or nested. Strings are text, or base64 if the parameters say so."""
    declared = _tensor(tensor)
    if "data" not in tensor:
        raise invalid(f"Input {declared.name!r} has neither 'data' nor the parameter 'binary_data_size'.")
    data = tensor["data"]
    if declared.datatype == "BYTES" and (tensor.get("parameters") or {}).get("content_type") == "base64":
        data = _marked(data)
    values = from_json(data, TensorSpec(declared.name, _TYPES[declared.datatype], None))
    return _shaped(values.ravel(), declared)


def _marked(data):
    """Wraps strings as TF Serving's JSON marks base64, `{"b64": ...}`."""
    if isinstance(data, list):
        return [_marked(each) for each in data]
    return {"b64": data} if isinstance(data, str) else data


def _to_data(array: np.ndarray):
    if array.dtype.kind == "O":
        return [_text(value) for value in array.ravel()]
    # JSON does not have NaN and infinity. They become null.
    return array.ravel().tolist()


def _text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


def _json(answer: dict) -> web.Response:
    return web.Response(body=json.dumps(answer).encode(), content_type="application/json")


# Tensors as raw bytes, in both protocols


def from_raw(raw: bytes | memoryview, declared: _Tensor) -> np.ndarray:
    """Reads little-endian values of fixed size, or strings that follow their lengths."""
    dtype = _TYPES[declared.datatype]
    if dtype.kind != "O":
        if len(raw) % dtype.itemsize:
            raise invalid(f"Input {declared.name!r} has {len(raw)} bytes, which is not a multiple of {dtype.itemsize}.")
        return _shaped(np.frombuffer(raw, dtype.newbyteorder("<")).astype(dtype), declared)
    strings, at = [], 0
    while at < len(raw):
        if at + 4 > len(raw) or at + 4 + (length := struct.unpack_from("<I", raw, at)[0]) > len(raw):
            raise invalid(f"Input {declared.name!r} has a string that is cut short at byte {at}.")
        strings.append(bytes(raw[at + 4 : at + 4 + length]))
        at += 4 + length
    return _shaped(_objects(strings), declared)


def to_raw(array: np.ndarray) -> bytes:
    """Writes an array in the form that `from_raw` reads."""
    if array.dtype.kind == "O":
        return b"".join(struct.pack("<I", len(value)) + value for value in array.ravel())
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


def _objects(values: list) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _shaped(values: np.ndarray, declared: _Tensor) -> np.ndarray:
    if values.size != math.prod(declared.shape):
        raise invalid(
            f"Input {declared.name!r} has {values.size} values, but its shape {list(declared.shape)} holds "
            f"{math.prod(declared.shape)}."
        )
    return values.reshape(declared.shape)


def _datatype(name: str, array: np.ndarray) -> str:
    if array.dtype not in _NAMES:
        raise RequestError("UNIMPLEMENTED", f"The protocol has no datatype for output {name!r} ({array.dtype.name}).")
    return _NAMES[array.dtype]


def selected(outputs: Mapping[str, np.ndarray], names) -> dict[str, np.ndarray]:
    """Returns the outputs that a request names, or all outputs if it names none."""
    if unknown := set(names) - set(outputs):
        raise invalid(f"The outputs are {sorted(outputs)}, but the request asks for {sorted(unknown)}.")
    return {name: outputs[name] for name in names or outputs}


# gRPC


def stubs_installed() -> bool:
    """Returns whether the packages for serving the protocol over gRPC are installed."""
    return installed("tritonclient.grpc")


def add_grpc_service(server, service: PredictService, answer: Callable, finished: Callable) -> str:
    """Adds the protocol's service to a gRPC server.

    Args:
        server: The server.
        service: The prediction service.
        answer: Function of a request's context and a function without arguments. It calls the latter and turns its
            errors into gRPC statuses.
        finished: Function of a coroutine and a request's context. It returns the coroutine's result.

    Returns:
        The full name of the service.
    """
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    class Inference(service_pb2_grpc.GRPCInferenceServiceServicer):
        def ServerLive(self, request, context):  # noqa: N802
            return service_pb2.ServerLiveResponse(live=True)

        def ServerReady(self, request, context):  # noqa: N802
            return service_pb2.ServerReadyResponse(ready=True)

        def ServerMetadata(self, request, context):  # noqa: N802
            return service_pb2.ServerMetadataResponse(**server_metadata())

        def ModelReady(self, request, context):  # noqa: N802
            try:
                with service.manager.use(*model_spec(request.name, request.version)):
                    return service_pb2.ModelReadyResponse(ready=True)
            except RequestError:
                return service_pb2.ModelReadyResponse(ready=False)

        def ModelMetadata(self, request, context):  # noqa: N802
            def call():
                with service.manager.use(*model_spec(request.name, request.version)) as servable:
                    return service_pb2.ModelMetadataResponse(**model_metadata(service, servable))

            return answer(context, call)

        def ModelInfer(self, request, context):  # noqa: N802
            return answer(context, lambda: finished(_infer_grpc(service, request), context))

    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Inference(), server)
    return service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name


async def _infer_grpc(service: PredictService, request):
    from tritonclient.grpc import service_pb2

    tensors = {tensor.name: tensor for tensor in request.inputs}
    raw = list(request.raw_input_contents)
    if len(tensors) != len(request.inputs):
        raise invalid("Each input must have a name of its own.")
    if raw and len(raw) != len(tensors):
        raise invalid(f"raw_input_contents must have one value for each of {len(tensors)} inputs, but has {len(raw)}.")

    def read(signature: Signature) -> dict[str, np.ndarray]:
        signature.check_names(tensors)
        return {
            name: from_raw(raw[place], _checked(name, tensor.datatype, tensor.shape)) if raw else _from_contents(tensor)
            for place, (name, tensor) in enumerate(tensors.items())
        }

    spec = model_spec(request.model_name, request.model_version)
    signature_name = request.parameters["signature_name"].string_param if request.parameters else ""
    version, _, outputs = await service.predict(
        spec, signature_name or frozenset(tensors), read, size=request.ByteSize(), entrypoint="GRPC"
    )
    response = service_pb2.ModelInferResponse(model_name=spec.name, model_version=str(version), id=request.id)
    for name, array in selected(outputs, [output.name for output in request.outputs]).items():
        tensor = response.outputs.add(name=name, datatype=_datatype(name, array), shape=array.shape)
        if raw:  # answer in the form of the request
            response.raw_output_contents.append(to_raw(array))
        else:
            getattr(tensor.contents, _CONTENTS[tensor.datatype]).extend(array.ravel().tolist())
    return response


def _from_contents(tensor) -> np.ndarray:
    declared = _checked(tensor.name, tensor.datatype, tensor.shape)
    field = _CONTENTS.get(declared.datatype)
    if field is None:
        raise invalid(f"Input {declared.name!r} of type {declared.datatype} must come in raw_input_contents.")
    values, dtype = list(getattr(tensor.contents, field)), _TYPES[declared.datatype]
    return _shaped(_objects(values) if dtype.kind == "O" else np.array(values).astype(dtype), declared)
