"""The protocol over gRPC, with the stubs of Triton's client."""

from collections.abc import Callable

import numpy as np

from keras_mixer.extras import installed
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
from keras_mixer.serving.server.service import PredictService, select_outputs

# The field of InferTensorContents that holds values of each type. float16 comes only as raw bytes.
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


def stubs_installed() -> bool:
    """Returns whether the packages for serving the protocol over gRPC are installed."""
    return installed("tritonclient.grpc")


def add_service(server, service: PredictService, answer: Callable, wait: Callable) -> str:
    """Adds the protocol's service to a gRPC server.

    Args:
        server: The server.
        service: The prediction service.
        answer: Function of a request's context and a function without arguments. It calls the latter and turns its
            errors into gRPC statuses.
        wait: Function of a coroutine and a request's context. It returns the coroutine's result.

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
            def describe():
                with service.manager.use(*model_spec(request.name, request.version)) as servable:
                    return service_pb2.ModelMetadataResponse(**model_metadata(service, servable))

            return answer(context, describe)

        def ModelInfer(self, request, context):  # noqa: N802
            return answer(context, lambda: wait(_infer(service, request), context))

    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Inference(), server)
    return service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name


async def _infer(service: PredictService, request):
    from tritonclient.grpc import service_pb2

    tensors = {tensor.name: tensor for tensor in request.inputs}
    raw = list(request.raw_input_contents)
    if len(tensors) != len(request.inputs):
        raise invalid("Each input must have a name of its own.")
    if raw and len(raw) != len(tensors):
        raise invalid(f"raw_input_contents must have one value for each of {len(tensors)} inputs, but has {len(raw)}.")

    def read(signature: Signature) -> dict[str, np.ndarray]:
        signature.check_names(tensors)
        arrays = {}
        for position, (name, tensor) in enumerate(tensors.items()):
            declaration = InputTensor(name, tensor.datatype, tuple(tensor.shape))
            if raw:
                arrays[name] = declaration.array_from_raw(raw[position])
            else:
                arrays[name] = _read_contents(declaration, tensor.contents)
        return arrays

    spec = model_spec(request.model_name, request.model_version)
    signature_name = request.parameters["signature_name"].string_param if request.parameters else ""
    version, _, outputs = await service.predict(
        spec, signature_name or frozenset(tensors), read, size=request.ByteSize(), entrypoint="GRPC"
    )
    response = service_pb2.ModelInferResponse(model_name=spec.name, model_version=str(version), id=request.id)
    outputs = select_outputs(outputs, [output.name for output in request.outputs])
    datatypes = {name: datatype_of(name, array) for name, array in outputs.items()}
    # Answer in the form of the request if it has a field for every output.
    as_raw = bool(raw) or not _CONTENTS.keys() >= set(datatypes.values())
    for name, array in outputs.items():
        tensor = response.outputs.add(name=name, datatype=datatypes[name], shape=array.shape)
        if as_raw:
            response.raw_output_contents.append(write_raw(array))
        else:
            getattr(tensor.contents, _CONTENTS[tensor.datatype]).extend(array.ravel().tolist())
    return response


def _read_contents(declaration: InputTensor, contents) -> np.ndarray:
    field = _CONTENTS.get(declaration.datatype)
    if field is None:
        raise invalid(f"Input {declaration.name!r} of type {declaration.datatype} must come in raw_input_contents.")
    return declaration.array(list(getattr(contents, field)))
