import contextlib
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
import stand_in

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


@pytest.mark.parametrize("settings", [{"version": 1, "label": "a"}, {"protocol": "soap"}, {"batch_size": 0}])
def test_settings_that_cannot_be_used(settings):
    with pytest.raises(ValueError, match=r"version|protocol|batch_size"):
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
