"""What the embedded server does beyond TF Serving's wire: limits, reloading, starting and stopping."""

import base64
import concurrent.futures
import http.client
import json
import pathlib
import re
import shutil
import socket
import sys
import threading
import time

import numpy as np
import pytest
import requests
import stand_in
from image_headers import png_header

from keras_mixer import serving
from keras_mixer.serving.errors import RequestError

ONE = {"instances": stand_in.images(0, 1).tolist()}


@pytest.fixture
def address(embedded):
    return f"{embedded.url}/v1/models/{stand_in.NAME}:predict"


@pytest.fixture
def base_path(bundle, tmp_path):
    path = tmp_path / "model"
    shutil.copytree(bundle / stand_in.NAME / "1", path / "1")
    return path


def test_a_precondition_that_fails_is_a_bad_request():
    """As `ToHTTPStatusCode` of TF Serving's `model_servers/http_server.cc` has it."""
    assert RequestError("FAILED_PRECONDITION", "not loaded").http_status == 400


def test_every_code_of_the_package_has_a_status():
    import grpc

    code = re.compile(r'RequestError\(\s*"(\w+)"|"\w+Error": "(\w+)"|missing(?:: str)?\s*=\s*"(\w+)"')
    files = pathlib.Path(serving.__file__).parent.rglob("*.py")
    codes = {"".join(found) for file in files for found in code.findall(file.read_text(encoding="utf-8"))}
    assert {"CANCELLED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"} <= codes
    for each in codes:
        assert RequestError(each, "").http_status >= 400
        assert grpc.StatusCode[each]


def test_a_grpc_tensor_may_not_declare_more_than_it_could_hold(embedded, grpc_stubs):
    import grpc
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    request = predict_pb2.PredictRequest(model_spec={"name": stand_in.NAME})
    tensor = request.inputs["images"]
    tensor.dtype = 1
    tensor.float_val.append(0.5)  # stands for every element
    for size in (2**30, 8, 8, 3):
        tensor.tensor_shape.dim.add(size=size)
    with grpc.insecure_channel(embedded.grpc_target) as channel, pytest.raises(grpc.RpcError) as failure:
        prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=30)
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "declares a shape" in failure.value.details()


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "message"),
    [
        # Within the limit in elements, beyond it in bytes.
        ("images", 1, (20_000, 8, 8, 3), "declares a shape"),
        ("images", 2, (4000, 8, 8, 3), "must be of type float32, but got float64"),
        ("images", 1, (1, 1000, 1000, 3), r"must have shape \[\?, 8, 8, 3\], but got \[1, 1000, 1000, 3\]"),
        ("images", 1, (-1, 8, 8, 3), "declares a shape"),
        ("images", 12345, (1, 8, 8, 3), "cannot be read as a tensor"),
        ("pictures", 1, (1, 8, 8, 3), r"takes the inputs \['images'\], but got \['pictures'\]"),
    ],
)
def test_a_grpc_tensor_is_checked_before_it_is_made(embedded, grpc_stubs, monkeypatch, name, dtype, shape, message):
    import tensorflow as tf

    made = []
    monkeypatch.setattr(tf, "make_ndarray", made.append)
    with pytest.raises(serving.ServingError, match=rf"{message}.*\[INVALID_ARGUMENT\]"):
        predict_proto(embedded, "serving_default", name, {"dtype": dtype, "float_val": [0.5]}, shape)
    assert made == []


def test_a_string_may_not_stand_for_several(embedded, grpc_stubs):
    with pytest.raises(serving.ServingError, match="declares a shape"):
        predict_proto(embedded, "echo", "data", {"dtype": 7, "string_val": [b"x" * 1000]}, (100_000,))


def predict_proto(server, signature, name, tensor, shape):
    import grpc
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    model = {"name": stand_in.NAME, "signature_name": signature}
    tensor = {**tensor, "tensor_shape": {"dim": [{"size": size} for size in shape]}}
    request = predict_pb2.PredictRequest(model_spec=model, inputs={name: tensor})
    with grpc.insecure_channel(server.grpc_target) as channel:
        try:
            prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=30)
        except grpc.RpcError as error:
            raise serving.ServingError(error.details(), error.code().name) from None


def test_an_image_that_declares_too_many_pixels_is_not_decoded(embedded):
    client = serving.Client(embedded.url, model=stand_in.NAME)
    with pytest.raises(serving.ServingError, match="30000 x 30000 pixels"):
        client.predict(png_header(30_000, 30_000))


def test_an_image_at_fault_is_named_by_its_place_in_the_request(address):
    """Also in a request of more images than a batch, and where only the decoder finds the damage."""
    files = [stand_in.png(seed) for seed in range(40)]
    broken = bytearray(files[35])
    broken[60] ^= 0xFF
    for bad, message in ((bytes(broken), "cannot be read: Invalid PNG data"), (b"text", "cannot be read: it is not")):
        files[35] = bad
        instances = [{"b64": base64.b64encode(data).decode()} for data in files]
        response = requests.post(address, json={"signature_name": "serving_bytes", "instances": instances}, timeout=30)
        assert response.status_code == 400
        assert response.json()["error"].startswith(f"Image 35 of the request {message}")


def test_a_body_that_declares_too_much_is_not_read(embedded):
    connection = http.client.HTTPConnection(embedded.host, embedded.rest_port, timeout=10)
    connection.putrequest("POST", f"/v1/models/{stand_in.NAME}:predict")
    connection.putheader("Content-Length", str(200 * 2**20))
    connection.endheaders(b"{")
    response = connection.getresponse()
    assert response.status == 413
    assert "larger than the 4,194,304 bytes" in json.loads(response.read())["error"]
    connection.close()


def test_a_body_that_does_not_end_is_cut_off(embedded):
    with socket.create_connection((embedded.host, embedded.rest_port), timeout=10) as connection:
        path = f"/v1/models/{stand_in.NAME}:predict"
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        chunk = b"10000\r\n" + bytes(65536) + b"\r\n"
        for _ in range(65):  # one more than the limit holds
            connection.sendall(chunk)
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_a_slow_body_is_given_up(embedded):
    with socket.create_connection((embedded.host, embedded.rest_port), timeout=10) as connection:
        path = f"/v1/models/{stand_in.NAME}:predict"
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 408")


def test_what_is_not_http_leaves_no_traceback_in_the_log(embedded, caplog):
    for data in (b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\nHost x\r\n\r\n"):  # https, and a bad header
        with socket.create_connection((embedded.host, embedded.rest_port), timeout=10) as connection:
            connection.sendall(data)
            assert connection.recv(100).startswith(b"HTTP/1.0 400")
    assert not caplog.records


def test_a_connection_without_a_request_is_closed(bundle):
    limits = serving.Limits(idle_timeout=0.3)
    with (
        serving.Server(bundle / stand_in.NAME, rest_port=0, port=None, limits=limits) as server,
        socket.create_connection((server.host, server.rest_port), timeout=10) as connection,
    ):
        connection.sendall(b"POST / HTTP/1.1\r\nHost:")
        assert connection.recv(100) == b""


def test_a_client_that_asks_before_it_sends_is_told_to_go_on(embedded):
    body = json.dumps(ONE).encode()
    with socket.create_connection((embedded.host, embedded.rest_port), timeout=10) as connection:
        head = f"POST /v1/models/{stand_in.NAME}:predict HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert connection.recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/v1/models/stand_in:predict", 400),
        ("DELETE", "/v1/models/stand_in", 400),
        ("POST", "/v1/models/stand_in:classify", 501),
        ("POST", f"/v1/models/stand_in/versions/{'9' * 5000}:predict", 400),
        ("GET", f"/v1/models/stand_in/versions/{2**63}", 400),
        ("GET", "/v1/models/stand_in/labels/nothing", 400),
        ("GET", "/v1/models/nobody/metadata", 404),
    ],
)
def test_addresses_that_are_none(embedded, method, path, status):
    response = requests.request(method, embedded.url + path, timeout=30)
    assert response.status_code == status
    assert list(response.json()) == ["error"]


def test_a_version_switch_under_load_loses_no_request(bundle, base_path):
    images = stand_in.images(0, 1)
    expected = [stand_in.expected_scores(images, version)[0] for version in (1, 2)]
    done = threading.Event()

    def ask(address):
        answers = []
        with requests.Session() as session:
            while not done.is_set():
                response = session.post(address, json={"instances": images.tolist()}, timeout=30)
                assert response.status_code == 200, response.text
                scores = response.json()["predictions"][0]
                answers.append([np.allclose(scores, one, atol=1e-6) for one in expected].index(True) + 1)
        return answers

    with (
        serving.Server(base_path, rest_port=0, port=None, poll_seconds=0.1) as server,
        concurrent.futures.ThreadPoolExecutor(4) as threads,
    ):
        address = f"{server.url}/v1/models/model:predict"
        answers = [threads.submit(ask, address) for _ in range(4)]
        try:
            hidden = base_path / ".2"
            shutil.copytree(bundle / stand_in.NAME / "2", hidden)
            hidden.rename(base_path / "2")
            wait_for(
                lambda: (
                    {"version": 1, "state": "END", "error": ""} in serving.Client(server.url, model="model").status()
                )
            )
        finally:
            done.set()
        for versions in (future.result() for future in answers):
            assert versions[-1] == 2
            assert versions == sorted(versions)  # the old version never answers again


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_settings_that_cannot_be_read_once_are_read_again(base_path):
    calls, again = [], threading.Event()

    def reread():
        calls.append(1)
        if len(calls) == 1:
            raise KeyError("an error of any kind")
        again.set()
        return ()

    with serving.Server(base_path, rest_port=0, port=None, poll_seconds=0.01, reread=reread):
        assert again.wait(60)


def test_stopping_answers_what_is_in_flight(bundle, grpc_stubs):
    # A batch would wait for company for a minute, longer than a stopping server waits for its requests.
    batching = serving.Batching(batch_timeout_micros=60_000_000)
    with serving.Server(bundle / stand_in.NAME, rest_port=0, port=0, batching=batching) as server:
        client = serving.Client(server.url, model=stand_in.NAME)
        grpc_client = serving.Client(server.grpc_target, model=stand_in.NAME, protocol="grpc")
        image = stand_in.images(0, 1)
        client.predict(np.repeat(image, 16, axis=0))  # from now on a batch waits for 14 rows or its time
        with concurrent.futures.ThreadPoolExecutor(2) as threads:
            answers = [threads.submit(one.predict, image) for one in (client, grpc_client)]
            wait_for(lambda: "keras_mixer_serving_in_flight 2.0" in metrics(server))
            assert not any(answer.done() for answer in answers)
            server.stop()
            assert [len(answer.result()) for answer in answers] == [1, 1]
        with pytest.raises(serving.ServingError, match="cannot be reached"):
            serving.Client(server.url, model=stand_in.NAME, retries=0).status()


def metrics(server):
    return requests.get(f"{server.url}/monitoring/prometheus/metrics", timeout=30).text


def test_a_server_can_start_again(bundle, grpc_stubs):
    server = serving.Server(bundle / stand_in.NAME, rest_port=0, port=0)
    for _ in range(2):
        with server:
            serving.Client(server.url, model=stand_in.NAME).wait_until_ready(5)
            with pytest.raises(RuntimeError, match="runs already"):
                server.start()
    server.stop()


def test_a_limit_beyond_what_grpc_counts_is_no_error(bundle, grpc_stubs):
    limits = serving.Limits(max_body_bytes=2**31)
    with serving.Server(bundle / stand_in.NAME, rest_port=0, port=0, limits=limits) as server:
        client = serving.Client(server.grpc_target, model=stand_in.NAME, protocol="grpc")
        assert len(client.predict(stand_in.images(0, 1))) == 1


@pytest.mark.parametrize("port", ["free", 0])
def test_a_start_that_failed_leaves_the_ports_to_the_next_one(base_path, grpc_stubs, port):
    if port == "free":
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
    model = base_path / "1" / "saved_model.pb"
    sound = model.read_bytes()
    model.write_bytes(b"no SavedModel")
    server = serving.Server(base_path, rest_port=0, port=port)
    with pytest.raises(ValueError, match="cannot be served"):
        server.start()
    model.write_bytes(sound)
    with server:
        client = serving.Client(server.grpc_target, model="model", protocol="grpc")
        assert len(client.predict(stand_in.images(0, 1))) == 1


@pytest.mark.parametrize("protocol", ["REST", "gRPC"])
def test_a_port_that_is_in_use(bundle, protocol):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = {"rest_port": port, "port": None} if protocol == "REST" else {"rest_port": 0, "port": port}
        with pytest.raises(OSError, match=f"{protocol} cannot listen on 127.0.0.1:{port}"):
            serving.Server(bundle / stand_in.NAME, **ports).start()


def test_a_host_that_is_not_known(bundle):
    with pytest.raises(OSError, match="not known"):
        serving.Server(bundle / stand_in.NAME, host="no.such.host.invalid", rest_port=0, port=None).start()


def test_nothing_to_serve():
    with pytest.raises(ValueError, match="no model to serve"):
        serving.Server([])


@pytest.mark.parametrize("package", ["aiohttp", "orjson", "prometheus_client", "tensorflow_serving"])
def test_a_missing_package_is_named_with_its_install_command(bundle, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match="which is not installed: pip install"):
        serving.Server(bundle / stand_in.NAME, rest_port=0, port=0).start()
    if package == "tensorflow_serving":
        monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
        with pytest.raises(ImportError, match="pip install --no-deps tensorflow-serving-api"):
            serving.Client("127.0.0.1:1", model="m", protocol="grpc")
