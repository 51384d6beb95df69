import numpy as np
import pytest
import tensorflow as tf

from keras_mixer.wire import WARM_UP_FILE


@pytest.fixture
def requests(exported):
    prediction_log_pb2 = pytest.importorskip(
        "tensorflow_serving.apis.prediction_log_pb2",
        reason="pip install --no-deps tensorflow-serving-api",
    )
    records = tf.data.TFRecordDataset(str(exported / "1" / WARM_UP_FILE)).as_numpy_iterator()
    logs = [prediction_log_pb2.PredictionLog.FromString(record) for record in records]
    assert all(log.WhichOneof("log_type") == "predict_log" for log in logs)
    return [log.predict_log.request for log in logs]


def test_the_official_protos_read_one_request_for_each_signature(requests):
    assert [request.model_spec.name for request in requests] == ["digits", "digits"]
    assert [request.model_spec.signature_name for request in requests] == ["serving_default", "serving_bytes"]


def test_the_requests_run(requests, exported):
    loaded = tf.saved_model.load(str(exported / "1"))
    for request in requests:
        inputs = {name: tf.constant(tf.make_ndarray(proto)) for name, proto in request.inputs.items()}
        outputs = loaded.signatures[request.model_spec.signature_name](**inputs)
        assert outputs["scores"].shape[0] == 1
        assert np.all(np.isfinite(outputs["scores"]))


def test_nothing_is_left_unread(requests):
    for request in requests:
        copy = type(request).FromString(request.SerializeToString())
        copy.DiscardUnknownFields()
        assert copy == request
