"""The client's side of TF Serving's gRPC interface, with the official stubs."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_mixer import wire
from keras_mixer.extras import require
from keras_mixer.serving.errors import ServingError

_OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


class GrpcTransport:
    """Calls one model at a gRPC address."""

    def __init__(
        self,
        target: str,
        model: str,
        version: int | None,
        label: str | None,
        *,
        timeout: float,
        headers: Mapping[str, str],
        credentials: Any,
    ):
        require("grpc", "tensorflow", extra="tensorflow", purpose="protocol='grpc'")
        require("tensorflow_serving.apis", command=wire.INSTALL_STUBS, purpose="protocol='grpc'")
        import grpc
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        if target.startswith(("http://", "https://")):
            raise ValueError(f"A gRPC address is host:port or another target of gRPC, but got {target!r}.")
        self._target, self._timeout = target, timeout
        self._metadata = [(name.lower(), value) for name, value in headers.items()]
        self._spec = {"name": model}
        if version is not None:
            self._spec["version"] = {"value": version}  # type: ignore[assignment]
        if label is not None:
            self._spec["version_label"] = label
        if isinstance(credentials, str | os.PathLike):
            credentials = grpc.ssl_channel_credentials(pathlib.Path(credentials).read_bytes())
        if credentials is None:
            self._channel = grpc.insecure_channel(target, options=_OPTIONS)
        else:
            self._channel = grpc.secure_channel(target, credentials, options=_OPTIONS)
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    @staticmethod
    def size(value: np.ndarray | bytes) -> int:
        """Returns the largest number of bytes that an image may take in a request."""
        return value.nbytes if isinstance(value, np.ndarray) else len(value) + 16

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray | Sequence[bytes]]) -> dict[str, np.ndarray]:
        """Returns the outputs of a signature by name."""
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest(model_spec={**self._spec, "signature_name": signature})
        for name, value in inputs.items():
            dtype = None if isinstance(value, np.ndarray) else tf.string
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value, dtype=dtype))
        response = self._call(self._prediction.Predict, request)
        return {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}

    def status(self, timeout: float | None = None) -> list[dict]:
        """Returns each version's number, state and error, within at most `timeout` seconds."""
        from tensorflow_serving.apis import get_model_status_pb2

        request = get_model_status_pb2.GetModelStatusRequest(model_spec=self._spec)
        states = get_model_status_pb2.ModelVersionStatus.State
        return [
            {"version": row.version, "state": states.Name(row.state), "error": row.status.error_message}
            for row in self._call(self._models.GetModelStatus, request, timeout).model_version_status
        ]

    def metadata(self) -> dict:
        """Returns the metadata in the form of REST's `/metadata` document."""
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=self._spec, metadata_field=["signature_def"]
        )
        response = self._call(self._prediction.GetModelMetadata, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        spec = response.model_spec
        return wire.metadata(spec.name, spec.version.value, signatures.signature_def)

    def _call(self, method, request, timeout: float | None = None):
        import grpc

        try:
            seconds = self._timeout if timeout is None else min(timeout, self._timeout)
            return method(request, timeout=seconds, metadata=self._metadata)
        except grpc.RpcError as error:
            message = error.details() or f"{self._target} gave no reason"
            raise ServingError(message, error.code().name) from None

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()
