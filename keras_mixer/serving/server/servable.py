"""One version of a model: loads the SavedModel, checks inputs of its signatures, runs them, and warms up."""

import base64
import logging
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from keras_mixer import wire
from keras_mixer.images import as_png, declared_size, image_format
from keras_mixer.serving.errors import RequestError, invalid, tensorflow_message
from keras_mixer.serving.server.config import Limits
from keras_mixer.serving.server.tensors import TensorSpec

MAX_RECORDS = 1000  # TF Serving's own limit on warm-up requests
# The statuses of TensorFlow's errors. The input causes the first four. Errors that are not listed are INTERNAL.
_CODES = {
    "InvalidArgumentError": "INVALID_ARGUMENT",
    "OutOfRangeError": "INVALID_ARGUMENT",
    "FailedPreconditionError": "INVALID_ARGUMENT",
    "DataLossError": "INVALID_ARGUMENT",
    "ResourceExhaustedError": "RESOURCE_EXHAUSTED",
}
# By the input of one signature of an export, the other signature: for image files or for arrays.
_OTHERS = {wire.IMAGES: wire.BYTES_SIGNATURE, wire.IMAGE_BYTES: wire.DEFAULT_SIGNATURE}
_log = logging.getLogger("keras_mixer.serving")


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of one signature, by name."""

    name: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    all_inputs: Mapping[str, Collection[str]] = field(default_factory=dict)  # inputs of all signatures of the model

    @property
    def batchable(self) -> bool:
        """Whether requests can be batched, which is so if the first axis of every tensor may have any length."""
        specs = [*self.inputs.values(), *self.outputs.values()]
        return bool(self.inputs) and all(spec.shape and spec.shape[0] is None for spec in specs)

    def check_names(self, names: Collection[str], *, further: bool = False) -> None:
        """Raises RequestError unless `names` are those of the inputs. If `further`, more names are allowed."""
        if not set(names) >= set(self.inputs) or (len(names) > len(self.inputs) and not further):
            got = f"{sorted(names)[:20]}.{self.hint(names)}"
            raise invalid(f"Signature {self.name!r} takes the inputs {sorted(self.inputs)}, but got {got}")

    def hint(self, names: Collection[str]) -> str:
        """Returns a sentence that names the signature with the inputs `names`; empty if there is none."""
        fitting = [name for name, inputs in self.all_inputs.items() if set(inputs) == set(names)]
        return f" The signature {fitting[0]!r} takes these." if fitting else ""

    def check(self, inputs: Mapping[str, np.ndarray], limits: Limits) -> None:
        """Raises RequestError unless the types, shapes and image headers of all inputs are valid."""
        for name, spec in self.inputs.items():
            spec.check(inputs[name].dtype, inputs[name].shape)
            if name == wire.IMAGE_BYTES and spec.dtype.kind == "O":
                check_images(inputs[name].ravel(), limits)
        if self.batchable:
            sizes = {name: len(array) for name, array in inputs.items()}
            if len(set(sizes.values())) != 1:
                raise invalid(f"All inputs must have the same number of rows, but got {sizes}.")


def check_images(images: Iterable[bytes], limits: Limits) -> None:
    """Raises RequestError if an image of a request declares too many pixels, or all images together do."""
    pixels = sum(check_image(data, limits.max_image_pixels, number) for number, data in enumerate(images))
    if pixels > limits.max_request_pixels:
        raise RequestError(
            "RESOURCE_EXHAUSTED",
            f"The request's images declare {pixels:,} pixels together, more than the {limits.max_request_pixels:,} "
            f"that are accepted: send fewer at a time, or smaller ones.",
        )


def check_image(data: bytes, max_pixels: int, number: int = 0) -> int:
    """Returns how many pixels an encoded image declares. A few hundred bytes can declare gigabytes of pixels.

    Only the header is read. Raises RequestError, which names the image by its number, if there are more than
    `max_pixels` pixels or the bytes are not an image.
    """
    name = f"Image {number} of the request"
    if not data:
        raise invalid(f"{name} has no bytes: send a JPEG, PNG, BMP or GIF file.")
    try:
        width, height = declared_size(data)
    except (ValueError, ImportError) as error:
        raise invalid(f"{name} cannot be read: {_encoded_twice(data) or error}.") from None
    if width * height > max_pixels:
        raise RequestError(
            "RESOURCE_EXHAUSTED",
            f"{name} declares {width} x {height} pixels, more than the {max_pixels:,} that are accepted.",
        )
    return width * height


def _encoded_twice(data: bytes) -> str:
    """Returns what is wrong if the bytes are base64 text of an image; an empty string otherwise."""
    text = re.sub(rb"^data:[^,]*,|\s", b"", data[:120])
    if not re.fullmatch(rb"[A-Za-z0-9+/=_-]{20,}", text):
        return ""
    start = base64.urlsafe_b64decode(text[: len(text) // 4 * 4].translate(bytes.maketrans(b"+/", b"-_")))
    if image_format(start) is None:
        return ""
    return (
        'it is base64 text instead of an image: over REST send {"b64": "..."}, encoded once, else the bytes themselves'
    )


class Servable:
    """A loaded version of a model. Raises ValueError if the SavedModel cannot be loaded or has no signatures."""

    def __init__(self, name: str, version: int, path: Path):
        import tensorflow as tf

        self.name, self.version, self.path = name, version, path
        try:
            # Keep the object: it owns the variables, which the signatures only refer to weakly.
            self._loaded = tf.saved_model.load(str(path))
            self.signature_defs = _signature_defs(path)
        except Exception as error:  # TensorFlow does not document what a damaged SavedModel raises
            raise ValueError(f"{path} is not a SavedModel that can be loaded: {_message(error)}") from error
        self._functions = dict(self._loaded.signatures)
        if not self._functions:
            raise ValueError(f"{path} has no signatures: export the model with signatures.")
        inputs = {
            name: _specs(function.structured_input_signature[1], self._functions)
            for name, function in self._functions.items()
        }
        self.signatures = {
            name: Signature(name, inputs[name], _specs(function.structured_outputs), inputs)
            for name, function in self._functions.items()
        }

    def signature(self, name: str | frozenset[str], *, missing: str = "FAILED_PRECONDITION") -> Signature:
        """Returns the signature called `name`, or the one whose inputs have these names, or else the default one."""
        if isinstance(name, frozenset):
            fitting = [key for key, signature in self.signatures.items() if signature.inputs.keys() == name]
            name = "" if wire.DEFAULT_SIGNATURE in fitting or not fitting else fitting[0]
        name = name or wire.DEFAULT_SIGNATURE
        if name not in self.signatures:
            raise RequestError(missing, f'Serving signature name: "{name}" not found in signature def')
        return self.signatures[name]

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs a signature on checked arrays. Raises RequestError if the model fails, such as on a damaged image."""
        import tensorflow as tf

        tensors = {
            name: tf.constant(array, dtype=tf.string if array.dtype.kind == "O" else None)
            for name, array in inputs.items()
        }
        try:
            outputs = self._functions[signature](**tensors)
            return {name: output.numpy() for name, output in outputs.items()}
        except tf.errors.OpError as error:
            raise RequestError(_CODES.get(type(error).__name__, "INTERNAL"), _message(error)) from error


def _signature_defs(path: Path):
    """Reads the SignatureDef protos, by name, for metadata."""
    from tensorflow.core.protobuf import saved_model_pb2

    proto = saved_model_pb2.SavedModel.FromString((path / wire.SAVED_MODEL_FILE).read_bytes())
    return {name: definition for graph in proto.meta_graphs[:1] for name, definition in graph.signature_def.items()}


def _specs(specs: Mapping, signatures: Collection[str] = ()) -> dict[str, TensorSpec]:
    """Converts TensorFlow's tensor specs. `signatures` are the names of the model's signatures."""
    found = {}
    for name, spec in specs.items():
        shape = None if spec.shape.rank is None else tuple(spec.shape.as_list())
        other = _OTHERS.get(name, "")
        found[name] = TensorSpec(name, np.dtype(spec.dtype.as_numpy_dtype), shape, other if other in signatures else "")
    return found


def _message(error: Exception) -> str:
    return tensorflow_message(getattr(error, "message", None) or str(error)) or type(error).__name__


def warm_up(servable: Servable, batch_sizes: tuple[int, ...] = (1,)) -> int:
    """Runs the warm-up requests recorded with a version, or blank requests if there are none. First runs are slow.

    Returns the number of requests. Raises ValueError if a recorded request cannot be read or fails.
    """
    records = servable.path / wire.WARM_UP_FILE
    if records.is_file():
        try:
            from tensorflow_serving.apis import prediction_log_pb2
        except ImportError:
            _log.info("Recorded warm-up requests need tensorflow-serving-api to be read; blank ones run instead.")
        else:
            return _run_records(servable, str(records), prediction_log_pb2.PredictionLog)
    count = 0
    for signature in servable.signatures.values():
        for size in batch_sizes if signature.batchable else ():
            inputs = {name: _blank(spec, size) for name, spec in signature.inputs.items()}
            try:
                servable.run(signature.name, inputs)
            except RequestError as error:  # some models refuse blank input
                _log.info("Warm-up of %s %d %s: %s", servable.name, servable.version, signature.name, error)
            else:
                count += 1
    return count


def _run_records(servable: Servable, path: str, log_type) -> int:
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        records = tf.data.TFRecordDataset(path).take(MAX_RECORDS).as_numpy_iterator()
        logs = [log_type.FromString(record) for record in records]
    except (tf.errors.OpError, DecodeError) as error:
        raise ValueError(f"The warm-up requests in {path} cannot be read: {error}") from error
    requests = [log.predict_log.request for log in logs if log.WhichOneof("log_type") == "predict_log"]
    for number, request in enumerate(requests, start=1):
        try:
            signature: Signature = servable.signature(request.model_spec.signature_name)
            servable.run(signature.name, {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()})
        except (RequestError, TypeError, ValueError) as error:
            raise ValueError(f"Warm-up request {number} of {path} fails: {error}") from error
    return len(requests)


def _blank(spec: TensorSpec, size: int) -> np.ndarray:
    if spec.name == wire.IMAGE_BYTES and spec.dtype.kind == "O":
        return np.array([as_png(np.zeros((32, 32, 3), np.uint8))] * size, dtype=object)
    inner = tuple(axis or 1 for axis in (spec.shape or (None,))[1:])
    if spec.dtype.kind == "O":
        return np.full((size, *inner), b"", dtype=object)
    return np.zeros((size, *inner), spec.dtype)
