"""What operators and other people's clients ask of the server: bare gRPC stubs, health, reflection, CORS, draining."""

import base64
import concurrent.futures
import http.client
import json
import threading
import time
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests
import stand_in

from keras_mixer import serving
from keras_mixer.serving.server.servable import Servable

pytestmark = pytest.mark.usefixtures("grpc_stubs")
IMAGES = stand_in.images(0, 2)
PAGE = {"Origin": "https://example.org"}


@pytest.fixture
def channel(embedded):
    import grpc

    with grpc.insecure_channel(embedded.grpc_target) as channel:
        yield channel


def request():
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    made = predict_pb2.PredictRequest(model_spec={"name": stand_in.NAME})
    made.inputs["images"].CopyFrom(tf.make_tensor_proto(IMAGES))
    return made


@pytest.mark.parametrize("deadline", [{}, {"timeout": None}, {"timeout": 30}, {"timeout": 1e9}])
def test_a_bare_stub_predicts_with_and_without_a_deadline(channel, deadline):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request(), **deadline)
    (scores,) = response.outputs.values()
    np.testing.assert_allclose(tf.make_ndarray(scores), stand_in.expected_scores(IMAGES, 2), atol=1e-6)


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_what_a_client_no_longer_waits_for_is_not_computed(bundle, monkeypatch, caplog, protocol):
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    started, sizes = threading.Event(), []

    def run(servable, signature, inputs):
        sizes.append(len(inputs["images"]))
        started.set()
        time.sleep(0.05)
        return {"scores": np.zeros((sizes[-1], 3), "float32")}

    images = stand_in.images(0, 100)
    one_at_a_time = serving.Batching(max_batch_size=1)
    with serving.Server(bundle / stand_in.NAME, rest_port=0, port=0, batching=one_at_a_time) as server:
        monkeypatch.setattr(Servable, "run", run)
        if protocol == "rest":
            body = json.dumps({"inputs": images.tolist()})
            connection = http.client.HTTPConnection(urlsplit(server.url).netloc)
            connection.request("POST", f"/v1/models/{stand_in.NAME}:predict", body)
            assert started.wait(60)
            connection.close()
        else:
            made = request()
            made.inputs["images"].CopyFrom(tf.make_tensor_proto(images))
            with grpc.insecure_channel(server.grpc_target) as channel:
                call = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict.future(made)
                assert started.wait(60)
                call.cancel()
        url = f"{server.url}/v1/models/{stand_in.NAME}:predict"
        requests.post(url, json={"inputs": images[:1].tolist()}, timeout=60).raise_for_status()
    assert len(sizes) < 50
    assert not caplog.records


@pytest.mark.parametrize("service", ["", "PredictionService", "tensorflow.serving.PredictionService", "ModelService"])
def test_health_is_told_by_the_standard_protocol(channel, service):
    """The short names are those of TF Serving's `--enable_grpc_healthcheck_service`."""
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_health_of_an_unknown_service_is_not_found(channel):
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with pytest.raises(grpc.RpcError) as error:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="other"))
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


def test_reflection_describes_the_services(channel):
    """As `grpcurl` asks, which has no proto files."""
    from google.protobuf.descriptor_pool import DescriptorPool
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    database = ProtoReflectionDescriptorDatabase(channel)
    assert {"tensorflow.serving.PredictionService", "grpc.health.v1.Health"} <= set(database.get_services())
    service = DescriptorPool(database).FindServiceByName("tensorflow.serving.PredictionService")
    assert service.methods_by_name["Predict"].input_type.full_name == "tensorflow.serving.PredictRequest"


@pytest.fixture(scope="module")
def open_to_pages(bundle):
    model = serving.ModelConfig(bundle / stand_in.NAME)
    with serving.Server(model, rest_port=0, port=None, cors="https://example.org") as server:
        yield f"{server.url}/v1/models/{stand_in.NAME}"


def test_a_page_of_the_origin_may_read_answers_and_errors(open_to_pages):
    answers = [
        requests.get(open_to_pages, headers=PAGE, timeout=30),
        requests.post(f"{open_to_pages}:predict", json={"instances": IMAGES.tolist()}, headers=PAGE, timeout=30),
        requests.post(f"{open_to_pages}:predict", json={}, headers=PAGE, timeout=30),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 400]
    for answer in answers:
        assert answer.headers["Access-Control-Allow-Origin"] == "https://example.org"


def test_a_preflight_is_answered_as_tf_serving_does(open_to_pages):
    """`RestApiRequestDispatcher::ProcessRequest` and `AddCORSHeaders` of its `model_servers`."""
    preflight = requests.options(f"{open_to_pages}:predict", headers=PAGE, timeout=30)
    assert (preflight.status_code, preflight.content) == (200, b"")
    assert preflight.headers["Access-Control-Allow-Methods"] == "POST, GET"
    assert preflight.headers["Access-Control-Allow-Headers"] == "Content-Type"
    refused = requests.options(f"{open_to_pages}:predict", timeout=30)
    assert (refused.status_code, refused.json()) == (400, {"error": "Origin header is missing in CORS preflight"})


def test_a_page_may_ask_by_the_open_inference_protocol(open_to_pages):
    """A binary tensor needs a header that browsers send and show only if the server allows it."""
    infer = f"{open_to_pages.replace('/v1/', '/v2/')}/infer"
    preflight = requests.options(infer, headers=PAGE, timeout=30)
    assert preflight.status_code == 200
    allowed = preflight.headers["Access-Control-Allow-Headers"].split(", ")
    assert allowed == ["Content-Type", "Inference-Header-Content-Length"]
    answer = requests.post(infer, json={}, headers=PAGE, timeout=30)
    assert answer.headers["Access-Control-Allow-Origin"] == "https://example.org"
    assert answer.headers["Access-Control-Expose-Headers"] == "Inference-Header-Content-Length"


def test_a_preflight_outside_of_v1_is_not_found(open_to_pages):
    """`RestApiRequestDispatcher::Dispatch` looks at the path first."""
    outside = open_to_pages.partition("/v1/")[0]
    assert requests.options(outside, headers=PAGE, timeout=30).status_code == 404


def test_without_cors_no_page_may_read_an_answer(embedded):
    answer = requests.options(f"{embedded.url}/v1/models/{stand_in.NAME}", headers=PAGE, timeout=30)
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("Access-Control")]


@pytest.mark.parametrize("origin", ["", "example.org", "https://example.org/page", "ftp://example.org"])
def test_what_is_no_origin_is_refused(bundle, origin):
    with pytest.raises(ValueError, match="An origin is"):
        serving.Server(bundle / stand_in.NAME, cors=origin)


def test_a_server_that_stops_says_so(bundle, monkeypatch):
    """To a health check that watches, and to REST by `Connection: close`, while it answers what is in flight."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from keras_mixer.serving.server.servable import Servable

    running, go_on = threading.Event(), threading.Event()
    run = Servable.run

    def slow(self, name, inputs):
        running.set()
        assert go_on.wait(60)
        return run(self, name, inputs)

    server = serving.Server(serving.ModelConfig(bundle / stand_in.NAME), rest_port=0, port=0).start()
    address = f"{server.url}/v1/models/{stand_in.NAME}:predict"
    with grpc.insecure_channel(server.grpc_target) as channel, concurrent.futures.ThreadPoolExecutor() as threads:
        states = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(states).status == health_pb2.HealthCheckResponse.SERVING
        monkeypatch.setattr(Servable, "run", slow)
        answer = threads.submit(requests.post, address, json={"instances": IMAGES.tolist()}, timeout=60)
        assert running.wait(60)
        stopped = threads.submit(server.stop)
        assert next(states).status == health_pb2.HealthCheckResponse.NOT_SERVING
        go_on.set()
        assert answer.result().status_code == 200
        assert answer.result().headers["Connection"] == "close"
        stopped.result(60)


def test_too_much_at_once_is_a_status_of_its_own(embedded):
    """A client may then send less at a time: 413 for bytes, 429 for pixels."""
    from image_headers import png_header

    files = {"b64": base64.b64encode(png_header(20_000, 20_000)).decode()}
    body = {"signature_name": "serving_bytes", "instances": [files]}
    answer = requests.post(f"{embedded.url}/v1/models/{stand_in.NAME}:predict", json=body, timeout=30)
    assert answer.status_code == 429
    assert "pixels" in answer.json()["error"]
    large = requests.post(f"{embedded.url}/v1/models/{stand_in.NAME}:predict", data=b" " * (4 * 2**20 + 1), timeout=30)
    assert large.status_code == 413
