"""The first runs of a version are slow: they are done before it takes requests."""

import io
import logging
from collections.abc import Iterator

import numpy as np

from keras_mixer.serving.errors import RequestError
from keras_mixer.serving.images import INPUT_NAME
from keras_mixer.serving.servable import Servable, Signature
from keras_mixer.serving.tensors import TensorSpec

RECORDS = "assets.extra/tf_serving_warmup_requests"
MAX_RECORDS = 1000  # TF Serving's own limit
_log = logging.getLogger("keras_mixer.serving")


def warm_up(servable: Servable, batch_sizes: tuple[int, ...] = (1,)) -> int:
    """Runs the SavedModel's recorded warm-up requests, or blank ones where it has none.

    Args:
        servable: The version to warm up.
        batch_sizes: The sizes of the blank requests.

    Returns:
        The number of requests that ran.

    Raises:
        ValueError: If a recorded request fails: the version does not answer what its maker says it does; or if the
            records cannot be read.
    """
    records = servable.path / RECORDS
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
            except RequestError as error:  # blank input need not suit every model
                _log.info("Warm-up of %s %d %s: %s", servable.name, servable.version, signature.name, error)
            else:
                count += 1
    return count


def _run_records(servable: Servable, path: str, log_type) -> int:
    import tensorflow as tf

    count = 0
    for log in _logs(path, log_type):
        if log.WhichOneof("log_type") != "predict_log":
            continue
        request = log.predict_log.request
        try:
            signature: Signature = servable.signature(request.model_spec.signature_name)
            servable.run(signature.name, {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()})
        except (RequestError, TypeError, ValueError) as error:
            raise ValueError(f"Warm-up request {count + 1} of {path} fails: {error}") from error
        count += 1
    return count


def _logs(path: str, log_type) -> Iterator:
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        for record in tf.data.TFRecordDataset(path).take(MAX_RECORDS).as_numpy_iterator():
            yield log_type.FromString(record)
    except (tf.errors.OpError, DecodeError) as error:
        raise ValueError(f"The warm-up requests in {path} cannot be read: {error}") from error


def _blank(spec: TensorSpec, size: int) -> np.ndarray:
    if spec.name == INPUT_NAME and spec.dtype.kind == "O":
        return np.array([_blank_png()] * size, dtype=object)
    inner = tuple(axis or 1 for axis in (spec.shape or (None,))[1:])
    if spec.dtype.kind == "O":
        return np.full((size, *inner), b"", dtype=object)
    return np.zeros((size, *inner), spec.dtype)


def _blank_png() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (32, 32)).save(file, "PNG")
    return file.getvalue()
