"""The server's gRPC services: TF Serving's (with the official stubs), Open Inference Protocol, health, reflection."""

import asyncio
import concurrent.futures
import contextlib
import logging
import math
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from keras_mixer.serving.errors import RequestError, invalid
from keras_mixer.serving.server.open_inference import grpc as open_inference
from keras_mixer.serving.server.servable import Signature
from keras_mixer.serving.server.service import ModelSpec, PredictService, select_outputs
from keras_mixer.serving.server.tensors import TensorSpec

# Each request occupies a thread while it waits for its batch.
_THREADS = 64
_LARGEST = 2**31 - 1  # gRPC counts the bytes of a message in a C int
_log = logging.getLogger("keras_mixer.serving")


def grpc_server(address: str, max_message_bytes: int):
    """Binds a gRPC server without services to an address `host:port`, and returns it with its port."""
    import grpc

    server = grpc.server(
        ThreadPoolExecutor(_THREADS, thread_name_prefix="keras_mixer_grpc"),
        options=[("grpc.max_receive_message_length", min(max_message_bytes, _LARGEST)), ("grpc.so_reuseport", 0)],
    )
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError:
        bound = 0
    if not bound:
        raise OSError(f"gRPC cannot listen on {address}: the port is in use, or this machine lacks the address.")
    return server, bound


def release(server) -> None:
    """Releases a server's port. It starts the server first, because stopping one that never started keeps the port."""
    with contextlib.suppress(ValueError):  # it runs already
        server.start()
    server.stop(None).wait()


def add_services(server, service: PredictService, loop: asyncio.AbstractEventLoop):
    """Adds the services to a gRPC server. Predictions run on `loop`.

    Returns:
        The health service. Call its `enter_graceful_shutdown` when the server stops.
    """
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha import reflection
    from tensorflow_serving.apis import (
        model_service_pb2,
        model_service_pb2_grpc,
        prediction_service_pb2,
        prediction_service_pb2_grpc,
    )

    def wait(call, context):
        return _wait(call, loop, context)

    class Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):  # noqa: N802
            return _answer(context, lambda: _predict(service, loop, request, context))

        def GetModelMetadata(self, request, context):  # noqa: N802
            return _answer(context, lambda: _metadata(service, request))

    class Model(model_service_pb2_grpc.ModelServiceServicer):
        def GetModelStatus(self, request, context):  # noqa: N802
            return _answer(context, lambda: _status(service, request))

    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Prediction(), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Model(), server)
    files = (prediction_service_pb2, model_service_pb2, health_pb2)
    names = [one.full_name for file in files for one in file.DESCRIPTOR.services_by_name.values()]
    if open_inference.stubs_installed():
        names.append(open_inference.add_service(server, service, _answer, wait))
    servicer = health.HealthServicer()
    # TF Serving knows its services by their short names, but the protocol requires full names.
    for name in ("", "PredictionService", "ModelService", *names):
        servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), server)
    return servicer


def _answer(context, call):
    import grpc

    try:
        return call()
    except RequestError as error:
        context.abort(grpc.StatusCode[error.code], error.message)
    except Exception:
        _log.exception("A gRPC request failed")
        context.abort(grpc.StatusCode.INTERNAL, "The server failed on this request; its log has the reason.")


def _predict(service: PredictService, loop, request, context):
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    limit = service.limits.max_body_bytes

    def read(signature: Signature) -> Mapping[str, np.ndarray]:
        signature.check_names(request.inputs)
        return {name: _array(proto, signature.inputs[name], limit) for name, proto in request.inputs.items()}

    spec, size = _model_spec(request.model_spec), request.ByteSize()
    call = service.predict(spec, request.model_spec.signature_name, read, size=size, entrypoint="GRPC")
    version, signature, outputs = _wait(call, loop, context)
    response = predict_pb2.PredictResponse()
    response.model_spec.name = spec.name
    response.model_spec.version.value = version
    response.model_spec.signature_name = signature.name
    for name, array in select_outputs(outputs, request.output_filter).items():
        response.outputs[name].CopyFrom(tf.make_tensor_proto(array))
    return response


def _wait(call, loop, context):
    """Runs a coroutine on the event loop and returns its result, unless the call ends first, as by its deadline."""
    future = asyncio.run_coroutine_threadsafe(call, loop)
    context.add_callback(future.cancel)
    left = context.time_remaining()  # without a deadline: None or centuries, depending on the release of gRPC
    try:
        return future.result(None if left is None or left > threading.TIMEOUT_MAX else left)
    except concurrent.futures.TimeoutError:
        future.cancel()
        raise RequestError("DEADLINE_EXCEEDED", "The request's deadline has passed.") from None
    except concurrent.futures.CancelledError:
        raise RequestError("CANCELLED", "The caller has gone.") from None


def _array(proto, spec: TensorSpec, limit: int) -> np.ndarray:
    """Returns the tensor in a TensorProto after checking that its type and shape suit the input."""
    import tensorflow as tf

    # A TensorProto may repeat one value to fill the shape that it declares, so a few bytes could ask for terabytes.
    # Each repeated string would be a copy, so strings may not be repeated.
    sizes = tuple(dim.size for dim in proto.tensor_shape.dim)
    try:
        dtype = np.dtype(tf.as_dtype(proto.dtype).as_numpy_dtype)
        spec.check(dtype, sizes)
        count = math.prod(sizes)
        repeated = proto.dtype == tf.string.as_datatype_enum and len(proto.string_val) != count
        if proto.tensor_shape.unknown_rank or min(sizes, default=0) < 0 or count * dtype.itemsize > limit or repeated:
            raise invalid(f"Input {spec.name!r} declares a shape that is not accepted: {list(sizes)}.")
        return tf.make_ndarray(proto)
    except (TypeError, ValueError, KeyError) as error:
        raise invalid(f"Input {spec.name!r} cannot be read as a tensor: {error}") from None


def _metadata(service: PredictService, request):
    from tensorflow_serving.apis import get_model_metadata_pb2

    if list(request.metadata_field) != ["signature_def"]:
        raise invalid(f"metadata_field must be ['signature_def'], but got {list(request.metadata_field)}.")
    spec = _model_spec(request.model_spec)
    with service.manager.use(*spec) as servable:
        signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.signature_defs)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = spec.name
        response.model_spec.version.value = servable.version
        response.metadata["signature_def"].Pack(signatures)
        return response


def _status(service: PredictService, request):
    from tensorflow.core.protobuf import error_codes_pb2
    from tensorflow_serving.apis import get_model_status_pb2

    spec = _model_spec(request.model_spec)
    response = get_model_status_pb2.GetModelStatusResponse()
    for number, state, error in service.manager.status(*spec):
        row = response.model_version_status.add(version=number, state=state)
        row.status.error_code = error_codes_pb2.UNKNOWN if error else error_codes_pb2.OK
        row.status.error_message = error
    return response


def _model_spec(proto) -> ModelSpec:
    if not proto.name:
        raise invalid("The request's model_spec has no name.")
    choice = proto.WhichOneof("version_choice")
    return ModelSpec(
        proto.name,
        proto.version.value if choice == "version" else None,
        proto.version_label if choice == "version_label" else None,
    )
