"""Requests that TF Serving runs before a version takes traffic, in the file where it looks for them."""

import pathlib

import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from tensorflow.core.framework import tensor_pb2

FILE = "assets.extra/tf_serving_warmup_requests"

_FIELD = descriptor_pb2.FieldDescriptorProto
_MESSAGE, _STRING = _FIELD.TYPE_MESSAGE, _FIELD.TYPE_STRING


def write_warm_up_requests(version: pathlib.Path, model_name: str, preprocessing) -> pathlib.Path:
    """Writes one request of a blank image for each of `serving_default` and `serving_bytes`.

    Args:
        version: Folder of a SavedModel.
        model_name: The name that it is served under.
        preprocessing: The model's `keras_mixer.data.Preprocessing`.

    Returns:
        The file, a TFRecord of `PredictionLog`.
    """
    shape = preprocessing.input_shape
    # One value and a shape stand for a whole tensor of it: the file stays small at any image size.
    blank = tf.make_tensor_proto(0.0, tf.float32, (1, *shape))
    encoded = tf.io.encode_png(tf.zeros(shape, tf.uint8)).numpy()
    requests = {
        "serving_default": {"images": blank},
        "serving_bytes": {"image_bytes": tf.make_tensor_proto([encoded], tf.string)},
    }
    path = version / FILE
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests.items():
            writer.write(_prediction_log(model_name, signature, inputs))
    return path


def _prediction_log(model_name: str, signature: str, inputs: dict[str, tensor_pb2.TensorProto]) -> bytes:
    log = _prediction_log_class()()
    request = log.predict_log.request
    request.model_spec.name, request.model_spec.signature_name = model_name, signature
    for name, tensor in inputs.items():
        request.inputs[name].ParseFromString(tensor.SerializeToString())
    return log.SerializeToString()


def _prediction_log_class():
    """The fields used here of TF Serving's message `PredictionLog`, by their published numbers.

    Its own package, tensorflow-serving-api, cannot be asked for: it requires the full TensorFlow beside any other.
    The tests read the file back with it.
    """
    file = descriptor_pb2.FileDescriptorProto(
        name="keras_mixer/warmup.proto",
        package="tensorflow.serving",
        syntax="proto3",
        dependency=[tensor_pb2.DESCRIPTOR.name],
    )
    _message(file, "ModelSpec", [("name", 1, _STRING, ""), ("signature_name", 3, _STRING, "")])
    request = _message(file, "PredictRequest", [("model_spec", 1, _MESSAGE, ".tensorflow.serving.ModelSpec")])
    # A map field is a repeated message of key and value.
    entry = ".tensorflow.serving.PredictRequest.InputsEntry"
    request.field.add(name="inputs", number=2, type=_MESSAGE, type_name=entry, label=_FIELD.LABEL_REPEATED)
    inputs = request.nested_type.add(name="InputsEntry")
    inputs.options.map_entry = True
    _fields(inputs, [("key", 1, _STRING, ""), ("value", 2, _MESSAGE, ".tensorflow.TensorProto")])
    _message(file, "PredictLog", [("request", 1, _MESSAGE, ".tensorflow.serving.PredictRequest")])
    _message(file, "PredictionLog", [("predict_log", 6, _MESSAGE, ".tensorflow.serving.PredictLog")])

    # A pool of its own: tensorflow-serving-api may register the same names in the process's common one.
    pool = descriptor_pool.DescriptorPool()
    _add_with_dependencies(pool, tensor_pb2.DESCRIPTOR, set())
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.serving.PredictionLog"))


def _message(file, name: str, fields: list[tuple[str, int, int, str]]):
    message = file.message_type.add(name=name)
    _fields(message, fields)
    return message


def _fields(message, fields: list[tuple[str, int, int, str]]) -> None:
    for name, number, kind, type_name in fields:
        message.field.add(name=name, number=number, type=kind, type_name=type_name or None, label=_FIELD.LABEL_OPTIONAL)


def _add_with_dependencies(pool: descriptor_pool.DescriptorPool, file, done: set[str]) -> None:
    for dependency in file.dependencies:
        _add_with_dependencies(pool, dependency, done)
    if file.name not in done:
        done.add(file.name)
        pool.AddSerializedFile(file.serialized_pb)
