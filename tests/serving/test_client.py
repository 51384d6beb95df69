import base64
import concurrent.futures
import contextlib
import http.server
import io
import socket
import ssl
import subprocess
import sys
import threading

import keras
import numpy as np
import photographs
import pytest
import stand_in
import trustme
from PIL import Image

from keras_mixer import serving


@pytest.fixture
def client(embedded):
    with serving.Client(embedded.url, model=stand_in.NAME, version=1, batch_size=4) as client:
        yield client


def test_float_images_are_taken_as_preprocessed(embedded, client):
    images = stand_in.images(3, 6)
    scores = stand_in.expected_scores(images, 1)
    tops = client.predict(images, top=1)
    assert [label for ((label, _),) in tops] == [str(k) for k in scores.argmax(-1)]
    np.testing.assert_allclose([score for ((_, score),) in tops], scores.max(-1), atol=1e-6)
    named = serving.Client(embedded.url, model=stand_in.NAME, version=1, labels=stand_in.CLASSES)
    assert named.predict(images[0], top=1)[0][0][0] == stand_in.CLASSES[scores[0].argmax()]


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_values_that_are_not_finite_are_sent(embedded, protocol, grpc_stubs):
    images = stand_in.images(3, 2)
    images[1, 0, 0, 0] = np.nan
    url = embedded.url if protocol == "rest" else embedded.grpc_target
    with serving.Client(url, model=stand_in.NAME, version=1, protocol=protocol) as client:
        features = client.features(images)
    assert np.isnan(features[1]).all()
    np.testing.assert_allclose(features[0], stand_in.expected_features(images[:1], 1)[0], atol=1e-6)


def test_paths_bytes_and_arrays_give_one_prediction_each(client, tmp_path):
    data = stand_in.png(5)
    path = tmp_path / "image.png"
    path.write_bytes(data)
    ((expected, *_),) = stand_in.expected_top([data], 1)
    for image in (path, str(path), data):
        ((top, *_),) = client.predict(image)
        assert top == (expected[0], pytest.approx(expected[1], abs=1e-6))
    assert len(client.predict([path, data] * 5)) == 10
    assert client.predict([]) == []


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((8, 8), np.uint8), "shape"),
        (np.zeros((8, 8, 3), np.int64), "must be uint8"),
        ([np.zeros((8, 8, 3), np.float32), b"file"], "cannot be mixed"),
        ([np.zeros((8, 8, 3), np.float32), np.zeros((9, 8, 3), np.float32)], "must have one shape"),
    ],
)
def test_images_that_cannot_be_sent(client, images, message):
    with pytest.raises(ValueError, match=message):
        client.predict(images)


def test_features_take_float_images_only(client):
    with pytest.raises(ValueError, match="preprocessed float"):
        client.features(np.zeros((8, 8, 3), np.uint8))


@pytest.mark.parametrize(
    "settings",
    [
        *({"version": 1, "label": "a"}, {"version": "1"}, {"protocol": "soap"}, {"batch_size": 0}, {"batch_size": 2.0}),
        *({"retries": -1}, {"retries": True}, {"max_request_bytes": "1"}, {"timeout": 0}),
    ],
    ids=repr,
)
def test_settings_that_cannot_be_used(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        serving.Client("http://127.0.0.1:1", model="m", **settings)


@pytest.mark.parametrize(("protocol", "url"), [("rest", "127.0.0.1:8501"), ("grpc", "http://127.0.0.1:8500")])
def test_an_address_of_the_wrong_kind(protocol, url, grpc_stubs):
    with pytest.raises(ValueError, match="address"):
        serving.Client(url, model="m", protocol=protocol)


def test_the_server_s_own_words_are_told(embedded, grpc_stubs):
    client = serving.Client(embedded.url, model="nobody")
    with pytest.raises(serving.ServingError, match=r"Servable not found for request: Latest\(nobody\)") as failure:
        client.predict(stand_in.png(0))
    assert failure.value.code == 404
    client = serving.Client(embedded.grpc_target, model="nobody", protocol="grpc")
    with pytest.raises(serving.ServingError, match=r"Servable not found") as failure:
        client.predict(stand_in.png(0))
    assert failure.value.code == "NOT_FOUND"


def test_a_server_that_cannot_be_reached(free_ports, grpc_stubs):
    client = serving.Client(f"http://127.0.0.1:{free_ports[0]}", model="m", retries=0)
    with pytest.raises(serving.ServingError, match="cannot be reached") as failure:
        client.status()
    assert failure.value.code is None
    client = serving.Client(f"127.0.0.1:{free_ports[0]}", model="m", protocol="grpc", retries=0)
    with pytest.raises(serving.ServingError) as failure:
        client.status()
    assert failure.value.code == "UNAVAILABLE"


def test_a_server_that_does_not_answer_in_time():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = serving.Client(f"http://127.0.0.1:{silent.getsockname()[1]}", model="m", timeout=0.2)
        with pytest.raises(serving.ServingError, match="did not answer within"):
            client.status()


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_waiting_for_a_silent_server_ends_with_its_own_time(protocol, grpc_stubs):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        url = f"http://{address}" if protocol == "rest" else address
        # A try that took the client's time would outlast any run of these tests.
        client = serving.Client(url, model="m", protocol=protocol, timeout=1e6)
        with pytest.raises(serving.ServingError, match=r"within 0\.\d+ s|Deadline Exceeded"):
            client.wait_until_ready(0.5)
        client.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue refuses connections")
def test_a_connection_that_takes_too_long_is_not_tried_again(caplog):
    with contextlib.ExitStack() as stack:
        deaf = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # fill its queue: what comes after is dropped
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(deaf.getsockname())
        client = serving.Client(f"http://127.0.0.1:{deaf.getsockname()[1]}", model="m", timeout=0.3)
        with pytest.raises(serving.ServingError, match=r"did not answer within 0\.3 s"):
            client.status()
    assert not [message for message in caplog.messages if "Retrying" in message]


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_a_server_that_comes_up_late_is_waited_for(bundle, free_ports, protocol, grpc_stubs):
    rest_port, port = free_ports
    url = f"http://127.0.0.1:{rest_port}" if protocol == "rest" else f"127.0.0.1:{port}"
    client = serving.Client(url, model=stand_in.NAME, protocol=protocol, retries=4)
    server = serving.Server(bundle / stand_in.NAME, rest_port=rest_port, port=port)
    starter = threading.Timer(0.3, server.start)
    starter.start()
    try:
        assert len(client.predict(stand_in.png(0))) == 1
    finally:
        starter.join()
        server.stop()
        client.close()


def test_rest_needs_neither_tensorflow_nor_keras_nor_a_server_library():
    code = (
        "import sys; from keras_mixer import serving\n"
        "serving.Client('http://127.0.0.1:1', model='m')\n"
        "loaded = {'tensorflow', 'keras', 'grpc', 'aiohttp', 'PIL'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {loaded}' if loaded else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def asking(server, protocol: str, **settings):
    """A client of the stand-in over either protocol."""
    address = server.url if protocol == "rest" else server.grpc_target
    return serving.Client(address, model=stand_in.NAME, version=1, protocol=protocol, **settings)


@pytest.fixture(scope="module")
def small_server(bundle):
    """It takes images of 100 pixels, so 800 in a request, and bodies of 64 KiB."""
    limits = serving.Limits(max_body_bytes=2**16, max_image_pixels=100)
    model = serving.ModelConfig(bundle / stand_in.NAME, versions=(1,))
    with serving.Server(model, rest_port=0, port=0, limits=limits) as server:
        yield server


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_a_request_that_is_too_large_is_sent_in_halves(small_server, protocol, grpc_stubs):
    client = asking(small_server, protocol)
    files = [stand_in.png(seed) for seed in range(20)]  # 1,280 pixels
    tops = [prediction[0][0] for prediction in client.predict(files, top=1)]
    assert tops == [top for ((top, _), *_) in stand_in.expected_top(files, 1)]
    long = [file + b"\0" * 8000 for file in files]  # 160 kB
    assert [prediction[0][0] for prediction in client.predict(long, top=1)] == tops
    images = stand_in.images(0, 300)  # 230 kB
    found = asking(small_server, protocol, batch_size=300).features(images)
    np.testing.assert_allclose(found, stand_in.expected_features(images, 1), atol=1e-5)
    with pytest.raises(serving.ServingError, match=r"Image 1 declares 20 x 20 pixels"):
        client.predict([files[0], stand_in.png(0, 20, 20)])
    with pytest.raises(serving.ServingError, match=r"larger than"):
        client.predict([files[0], files[0] + b"\0" * 2**17])


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_requests_hold_no_more_bytes_than_allowed(embedded, protocol, grpc_stubs, monkeypatch):
    """Ten photographs of 6 MB go to a server of 32 MiB in three requests over REST and two over gRPC."""
    client = asking(embedded, protocol)
    sent = []
    monkeypatch.setattr(
        client._transport,
        "predict",
        lambda signature, inputs: (
            sent.append(len(inputs["image_bytes"])) or {"labels": [["a"]] * sent[-1], "scores": [[1.0]] * sent[-1]}
        ),
    )
    assert len(client.predict([stand_in.png(0) + b"\0" * (6 * 10**6)] * 10)) == 10
    assert sent == ([4, 4, 2] if protocol == "rest" else [5, 5])


def test_the_bound_on_a_request_s_bytes_holds():
    """What the client counts is at least what it sends."""
    from keras_mixer.serving.client.rest import RestTransport, _dump

    array = np.array([-1.17549435e-38, -3.4028235e38, np.pi, 0, -np.pi / 1000], np.float32)
    around = len('{"inputs":{"x":[]}}')
    assert len(_dump({"inputs": {"x": array}})) - around <= RestTransport.size(array)
    for length in range(5):
        written = _dump({"inputs": {"x": [{"b64": base64.b64encode(b"x" * length).decode()}]}})
        assert len(written) - around + 1 <= RestTransport.size(b"x" * length)


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_a_bad_image_is_named(embedded, protocol, grpc_stubs, tmp_path):
    paths = [tmp_path / f"{seed}.png" for seed in range(12)]
    for seed, path in enumerate(paths):
        path.write_bytes(stand_in.png(seed))
    broken = bytearray(paths[7].read_bytes())
    broken[60] ^= 0xFF  # only the decoder finds this
    paths[7].write_bytes(broken)
    client = asking(embedded, protocol)
    with pytest.raises(serving.ServingError, match=r"Image 7 \(.*/7\.png\) cannot be read: Invalid PNG data"):
        client.predict(paths)
    paths[7].write_bytes(b"")
    with pytest.raises(serving.ServingError, match=r"Image 7 \(.*/7\.png\) has no bytes"):
        client.predict(paths)


def test_a_bad_image_is_named_where_the_server_does_not(monkeypatch):
    """As TF Serving answers, with the words of TensorFlow."""
    client = serving.Client("http://localhost:1", model="m")

    def predict(signature, inputs):
        if b"bad" in inputs["image_bytes"]:
            raise serving.ServingError(words, 400)
        return {"labels": [["a"]] * len(inputs["image_bytes"]), "scores": [[1.0]] * len(inputs["image_bytes"])}

    monkeypatch.setattr(client._transport, "predict", predict)
    words = "{{function_node __inference_1}} assertion failed: [Image 3 of the request is cut short (3 bytes).]"
    words += "\n\t [[{{node Assert}}]]"
    with pytest.raises(serving.ServingError, match=r"^Image 9 is cut short \(3 bytes\)\. \[400\]$"):
        client.predict([*[b"good"] * 9, b"bad", b"good"])
    words = "Invalid PNG data, size 3\n\t [[{{node DecodePng}}]]"
    with pytest.raises(serving.ServingError, match=r"^Image 0 cannot be read: Invalid PNG data, size 3 \[400\]$"):
        client.predict(b"bad")
    words = "Serving signature name: serving_bytes not found"
    with pytest.raises(serving.ServingError, match=rf"^{words} \[400\]$"):
        client.predict([b"bad", b"good"])


@pytest.mark.parametrize("code", [429, "RESOURCE_EXHAUSTED", 503, "UNAVAILABLE"])
def test_a_busy_or_unavailable_server_is_asked_again_as_often_as_wished(monkeypatch, code):
    client = serving.Client("http://localhost:1", model="m", retries=10)
    answers = [serving.ServingError("Too many requests", code, 0.01)] * 10 + [[[0.0, 1.0]]]

    def predict(*_):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(client._transport, "predict", predict)
    assert client.predict(np.zeros((8, 8, 3), np.float32), top=1) == [[("1", 1.0)]]
    answers = [serving.ServingError("Too many requests", code, 0.01)] * 11
    with pytest.raises(serving.ServingError, match="Too many requests"):
        client.predict(np.zeros((8, 8, 3), np.float32))


def test_a_lost_connection_is_tried_again():
    class Handler(http.server.BaseHTTPRequestHandler):
        lost = 2

        def do_GET(self):
            if Handler.lost:
                Handler.lost -= 1
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"model_version_status": []}')

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with serving.Client(f"http://127.0.0.1:{server.server_port}", model="m", retries=2) as client:
            assert client.status() == []
            Handler.lost = 3
            with pytest.raises(serving.ServingError, match="cannot be reached"):
                client.status()
        server.shutdown()


def test_images_of_every_kind(client, tmp_path):
    data = stand_in.png(5)
    path = tmp_path / "image.png"
    path.write_bytes(data)
    written = io.BytesIO()
    picture = Image.open(io.BytesIO(data))
    tags = Image.Exif()
    tags[0x0112] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(written, "TIFF", exif=tags)  # now at its end
    (expected,) = client.predict(data)
    with path.open("rb") as file:
        for image in (memoryview(data), bytearray(data), file, io.BytesIO(data), picture, written, Image.open(written)):
            for given in (image, [image]):
                assert client.predict(given) == [expected]
    with path.open(encoding="latin-1") as file, pytest.raises(ValueError, match="open it with 'rb'"):
        client.predict(file)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_tensors_count_as_arrays(client, dtype):
    images = (stand_in.images(3, 2) * 255).astype(dtype) if dtype == "uint8" else stand_in.images(3, 2)
    tensors = keras.ops.convert_to_tensor(images, dtype)
    assert client.predict(tensors) == client.predict(list(tensors)) == client.predict(images)
    assert client.predict(tensors[0]) == client.predict(images[0])


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_any_time_to_wait_is_accepted(embedded, protocol, grpc_stubs):
    url = embedded.url if protocol == "rest" else embedded.grpc_target
    for timeout in (1e12, float("inf"), None):
        with serving.Client(url, model=stand_in.NAME, protocol=protocol, timeout=timeout) as client:
            client.wait_until_ready(timeout)
            assert client.status()


def test_a_photograph_that_graphs_do_not_read_is_sent_upright(client):
    pillow_heif = pytest.importorskip("pillow_heif")
    data = photographs.encoded(photographs.photograph(0, (64, 48)), "HEIF", 6)
    seen = np.asarray(pillow_heif.open_heif(data).to_pillow().convert("RGB"))
    assert seen.shape == (48, 64, 3)
    assert client.predict(data) == client.predict(seen)


def test_floats_that_were_not_preprocessed_are_warned_of(client):
    with pytest.warns(UserWarning, match="beyond 10: send uint8 arrays"):
        client.predict(np.full((8, 8, 3), 200, np.float32))


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """A certificate for this machine, and the file of the authority that issued it."""
    authority = trustme.CA()
    file = tmp_path_factory.mktemp("tls") / "authority.pem"
    authority.cert_pem.write_to_path(file)
    return authority.issue_cert("localhost", "127.0.0.1"), file


def test_rest_over_tls_with_headers(tls):
    certificate, authority = tls
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.headers["Authorization"])
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"model_version_status": [{"version": "1", "state": "AVAILABLE"}]}')

        def log_message(self, *_):
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"https://127.0.0.1:{server.server_port}"
        with serving.Client(url, model="m", headers={"Authorization": "Bearer x"}, credentials=authority) as client:
            assert client.status()[0]["state"] == "AVAILABLE"
        with serving.Client(url, model="m", retries=0) as client, pytest.raises(serving.ServingError, match="SSL"):
            client.status()
        server.shutdown()
    assert seen == ["Bearer x"]
    with pytest.raises(ValueError, match="file of certificates"):
        serving.Client(url, model="m", credentials=object())


def test_a_redirection_that_would_lose_the_images_is_told():
    """As from a proxy that wants https."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(301)
            self.send_header("Location", f"/elsewhere{self.path}")
            self.end_headers()

        def do_GET(self):
            self.send_response(400)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        with (
            serving.Client(url, model="m") as client,
            pytest.raises(
                serving.ServingError, match=f"is redirected to {url}/elsewhere/v1/models/m:predict: "
            ) as error,
        ):
            client.predict(stand_in.png(0))
        server.shutdown()
    assert error.value.code == 301


@pytest.mark.parametrize("target", ["127.0.0.1:{port}", "ipv4:127.0.0.1:{port}", "dns:///localhost:{port}"])
def test_grpc_over_tls_with_headers_at_any_target(tls, target, grpc_stubs):
    import grpc
    from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

    certificate, authority = tls
    seen = []

    class Service(model_service_pb2_grpc.ModelServiceServicer):
        def GetModelStatus(self, request, context):  # noqa: N802
            seen.append(dict(context.invocation_metadata())["authorization"])
            response = get_model_status_pb2.GetModelStatusResponse()
            response.model_version_status.add(version=1, state=30)
            return response

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Service(), server)
    key, chain = certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes()
    port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([(key, chain)]))
    server.start()
    address = target.format(port=port)
    try:
        for credentials in (authority, grpc.ssl_channel_credentials(authority.read_bytes())):
            settings = {"headers": {"Authorization": "Bearer x"}, "credentials": credentials}
            with serving.Client(address, model="m", protocol="grpc", **settings) as client:
                assert client.status()[0]["state"] == "AVAILABLE"
    finally:
        server.stop(None)
    assert seen == ["Bearer x"] * 2
