"""A thousand bad requests, of a fixed seed, each answered by a 4xx while good ones go on being answered right."""

import base64
import concurrent.futures
import io
import itertools
import json
import random
import socket
import threading

import numpy as np
import pytest
import requests
import stand_in
from image_headers import gif_header, jpeg_header, png_header
from PIL import Image

from keras_mixer import serving

REQUESTS = 1000
SLOW_CLIENTS = 8
PATH = f"/v1/models/{stand_in.NAME}"
INFER = f"/v2/models/{stand_in.NAME}"


def jpeg(seed: int) -> bytes:
    file = io.BytesIO()
    Image.open(io.BytesIO(stand_in.png(seed, 24, 24))).save(file, "JPEG")
    return file.getvalue()


def floats(value) -> bytes:
    return json.dumps({"instances": value}).encode()


def file_of(data: bytes) -> bytes:
    instance = {"b64": base64.b64encode(data).decode()}
    return json.dumps({"signature_name": "serving_bytes", "instances": [instance]}).encode()


def wrong_shape(random_):
    shape = [random_.randint(1, 9) for _ in range(random_.randint(0, 5))]
    shape = shape if shape[1:] != [8, 8, 3] else [1, 8, 8, 4]
    return PATH, floats(np.zeros(shape).tolist() if shape else 1.0)


def ragged(random_):
    image = np.zeros((1, 8, 8, 3)).tolist()
    image[0][random_.randrange(8)].pop()
    return PATH, floats(image)


def wrong_type(random_):
    image = np.zeros((1, 8, 8, 3)).tolist()
    image[0][random_.randrange(8)][random_.randrange(8)][1] = random_.choice(
        ["1", None, {}, "x" * 1000, {"b64": "AA=="}]
    )
    return PATH, floats(image)


def not_a_number(random_):
    token = random_.choice(["nan", "Infinit", "-", "1e999", "-1e400"])
    return PATH, floats(np.zeros((1, 8, 8, 3)).tolist()).replace(b"0.0", token.encode(), 1)


def cut_image(random_) -> bytes:
    data = random_.choice([jpeg, stand_in.png])(random_.randrange(9))
    return data[: random_.randrange(len(data) - 20)]


def noise_image(random_) -> bytes:
    start = random_.choice([b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", stand_in.png(0)[:40], b"GIF89a"])
    return start + random_.randbytes(random_.randrange(1, 300))


def bomb_image(random_) -> bytes:
    return random_.choice([png_header, jpeg_header, gif_header])(30_000, 30_000)


def cut_short(random_):
    return PATH, file_of(cut_image(random_))


def no_bytes(random_):
    return PATH, random_.choice([b"", file_of(b""), file_of(bytes(random_.randrange(1, 99)))])


def noise(random_):
    return PATH, file_of(noise_image(random_))


def bomb(random_):
    return PATH, file_of(bomb_image(random_))


def unknown(random_):
    path = random_.choice([f"{PATH}/versions/7", f"{PATH}/labels/none", "/v1/models/nobody", f"{PATH}%00", f"{PATH}/x"])
    return path, floats(np.zeros((1, 8, 8, 3)).tolist())


def unknown_signature(random_):
    body = {"signature_name": random_.choice(["none", "", 3, None]), "instances": [[1.0]]}
    return PATH, json.dumps(body).encode()


def broken_json(random_):
    body = bytearray(file_of(b"data"))
    del body[random_.randrange(len(body) // 2) :]
    return PATH, bytes(body) + random_.choice([b"", b"\xff", b"[" * 5000])


def wrong_keys(random_):
    bodies = [
        {},
        {"instances": [], "inputs": []},
        {"instances": []},
        {"instances": {"images": []}},
        {"inputs": {}},
        {"inputs": {"images": [], "more": []}},
        {"inputs": None},
        {"instances": [{"images": 1}, 2]},
        {"instances": [{"b64": "AA=="}]},
    ]
    return PATH, json.dumps(random_.choice(bodies)).encode()


def tensor(raw: bytes | None = None, **fields) -> tuple[bytes, dict]:
    """A request of the Open Inference Protocol for one tensor, with its values behind the JSON if there are any."""
    fields = {"name": "images", "shape": [1, 8, 8, 3], "datatype": "FP32"} | fields
    if raw is not None:
        fields.setdefault("parameters", {"binary_data_size": len(raw)})
    text = json.dumps({"inputs": [fields]}).encode()
    return text + (raw or b""), {} if raw is None else {"Inference-Header-Content-Length": str(len(text))}


def infer_wrong_values(random_):
    values = np.zeros(192).tolist()
    values[random_.randrange(192)] = random_.choice(["1", None, {}, [0.0], {"b64": "AA=="}])
    return INFER, *tensor(data=random_.choice([values, values[1:], [], 1.0, None, np.zeros((1, 8, 8, 4)).tolist()]))


def infer_wrong_fields(random_):
    wrong = {
        "name": random_.choice([None, 3, "", "image_bytes", "x" * 1000]),
        "shape": random_.choice([None, "1", [1, 8, 8], [-1, 8, 8, 3], [1.5], [2**62, 2**62], [[1]]]),
        "datatype": random_.choice([None, "FLOAT", "INT32", "BYTES", "BF16", 7, ["FP32"]]),
        "parameters": random_.choice([3, [], {"binary_data_size": -1}, {"binary_data_size": "8"}]),
    }
    key = random_.choice([*wrong])
    return INFER, *tensor(data=np.zeros(191 if key == "parameters" else 192).tolist(), **{key: wrong[key]})


def infer_wrong_raw(random_):
    raw = random_.randbytes(random_.choice([0, 1, 767, 769, 800]))
    if random_.random() < 0.5:
        return INFER, *tensor(raw, name="image_bytes", shape=[1], datatype="BYTES")
    return INFER, *tensor(raw)


def infer_wrong_image(random_):
    data = random_.choice([cut_image, noise_image, bomb_image])(random_)
    raw = len(data).to_bytes(4, "little") + data
    return INFER, *tensor(raw, name="image_bytes", shape=[1], datatype="BYTES")


def infer_wrong_header(random_):
    body, _ = tensor(data=np.zeros(192).tolist())
    return INFER, body, {"Inference-Header-Content-Length": random_.choice(["-1", "x", "1e3", "999999", "12", "0"])}


def infer_unknown(random_):
    path = random_.choice([f"{INFER}/versions/7", f"{INFER}/versions/none", "/v2/models/nobody", f"{INFER}/x", "/v2/x"])
    return path, *tensor(data=np.zeros(192).tolist())


def infer_broken_json(random_):
    bodies = [{}, [], {"inputs": {}}, {"inputs": [1]}, {"inputs": []}, {"inputs": None}, {"parameters": 1}, 7]
    body = bytearray(json.dumps(random_.choice(bodies)).encode())
    return INFER, bytes(body[: random_.randrange(len(body) + 1)]) + random_.choice([b"", b"\xff", b"[" * 5000]), {}


KINDS = {
    "predict": [
        *(wrong_shape, ragged, wrong_type, not_a_number, cut_short, no_bytes, noise, bomb),
        *(unknown, unknown_signature, broken_json, wrong_keys),
    ],
    "infer": [
        *(infer_wrong_values, infer_wrong_fields, infer_wrong_raw, infer_wrong_image, infer_wrong_header),
        *(infer_unknown, infer_broken_json),
    ],
}


@pytest.mark.parametrize("protocol", KINDS)
def test_bad_requests_are_refused_and_harm_no_other(embedded, protocol):
    done = threading.Event()
    random_ = random.Random(2105_01601)
    kinds = KINDS[protocol]
    bad = [kinds[number % len(kinds)](random_) for number in range(REQUESTS)]
    turns = iter(bad)
    turn = threading.Lock()

    def send_bad():
        count = 0
        with requests.Session() as session:
            while True:
                with turn:
                    request = next(turns, None)
                if request is None:
                    return count
                path, body, *headers = request
                address = f"{embedded.url}{path}{':predict' if protocol == 'predict' else '/infer'}"
                response = session.post(address, data=body, headers=dict(*headers), timeout=30)
                assert 400 <= response.status_code < 500, (path, body[:300], response.text)
                assert list(response.json()) == ["error"], (path, body[:300], response.text)
                count += 1

    def send_good(seed):
        files = [stand_in.png(seed)]
        ((expected, *_),) = stand_in.expected_top(files, 2)
        count = 0
        with serving.Client(embedded.url, model=stand_in.NAME, retries=0) as client:
            while not done.is_set():
                ((top, *_),) = client.predict(files)
                assert top == (expected[0], pytest.approx(expected[1], abs=1e-6))
                count += 1
        return count

    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        good = [threads.submit(send_good, seed) for seed in range(3)]
        slow = [threads.submit(dribble, embedded) for _ in range(SLOW_CLIENTS)]
        endless = threads.submit(pour, embedded)
        senders = [threads.submit(send_bad) for _ in range(4)]
        try:
            assert sum(sender.result() for sender in senders) == REQUESTS
            assert [client.result() for client in slow] == [408] * SLOW_CLIENTS
            assert endless.result() == 413
        finally:
            done.set()
        assert all(client.result() > 0 for client in good)
    assert serving.Client(embedded.url, model=stand_in.NAME).status()[0]["state"] == "AVAILABLE"


def post(embedded, headers: str) -> socket.socket:
    connection = socket.create_connection((embedded.host, embedded.rest_port), timeout=20)
    connection.sendall(f"POST {PATH}:predict HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n".encode())
    return connection


def dribble(embedded) -> int:
    """The status of a request whose body comes byte by byte."""
    with post(embedded, "Content-Length: 1000") as connection:
        connection.settimeout(0.2)
        for _ in range(100):
            connection.sendall(b" ")
            try:
                return int(connection.recv(1000).split()[1])
            except TimeoutError:
                continue
    raise AssertionError("no answer")


def pour(embedded) -> int:
    """The status of a request whose body of 200 MB is poured in 64 KiB pieces, until the server has enough."""
    with post(embedded, "Transfer-Encoding: chunked") as connection:
        piece = b"10000\r\n" + b" " * 65536 + b"\r\n"
        connection.settimeout(0.0)
        pending = memoryview(b"")
        pieces = itertools.repeat(piece, 3200)
        while True:
            try:
                return int(connection.recv(1000).split()[1])
            except BlockingIOError:
                pass
            pending = pending or memoryview(next(pieces))
            connection.settimeout(20.0)
            pending = pending[connection.send(pending) :]
            connection.settimeout(0.0)
