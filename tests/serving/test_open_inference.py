"""The Open Inference Protocol, asked by Triton's own clients and by plain requests."""

import asyncio
import base64
import json

import numpy as np
import pytest
import requests
import stand_in

from keras_mixer.serving.errors import RequestError
from keras_mixer.serving.server.open_inference.protocol import InputTensor
from keras_mixer.wire import stubs_installed

http = pytest.importorskip("tritonclient.http", reason="pip install tritonclient[http]")
triton_grpc = pytest.importorskip("tritonclient.grpc", reason="pip install tritonclient[grpc]")
IMAGES = stand_in.images(seed=1, count=3)
SCORES = stand_in.expected_scores(IMAGES, 2)
FILES = [stand_in.png(seed) for seed in range(3)]
NAME = stand_in.NAME
DEEP = json.loads("[" * 900 + "]" * 900)


@pytest.fixture(scope="module", params=["http", "grpc"])
def protocol(request):
    if request.param == "grpc" and not stubs_installed():
        pytest.skip("pip install --no-deps tensorflow-serving-api")
    return request.param


@pytest.fixture(scope="module")
def client(embedded, protocol):
    if protocol == "http":
        with http.InferenceServerClient(embedded.url.removeprefix("http://")) as client:
            yield client
    else:
        with triton_grpc.InferenceServerClient(embedded.grpc_target) as client:
            yield client


@pytest.fixture
def infer(client, protocol):
    module = http if protocol == "http" else triton_grpc

    def call(outputs=None, version="", parameters=None, **arrays):
        inputs = []
        for name, array in arrays.items():
            datatype = {"f": "FP32", "O": "BYTES"}[array.dtype.kind]
            tensor = module.InferInput(name, array.shape, datatype)
            tensor.set_data_from_numpy(array)
            inputs.append(tensor)
        wanted = outputs and [module.InferRequestedOutput(name) for name in outputs]
        return client.infer(NAME, inputs, model_version=version, outputs=wanted, parameters=parameters)

    return call


def test_the_server_and_its_models_are_there(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(NAME)
    assert client.is_model_ready(NAME, "1")
    assert not client.is_model_ready("absent")
    assert not client.is_model_ready(NAME, "9")


def test_the_metadata_are_those_of_the_default_signature(client, protocol):
    of_server = client.get_server_metadata() if protocol == "http" else client.get_server_metadata(as_json=True)
    assert of_server["name"] == "keras_mixer"
    assert "binary_tensor_data" in of_server["extensions"]
    found = client.get_model_metadata(NAME) if protocol == "http" else client.get_model_metadata(NAME, as_json=True)
    assert (found["name"], sorted(found["versions"]), found["platform"]) == (NAME, ["1", "2"], "tensorflow_savedmodel")
    (images,), (scores,) = found["inputs"], found["outputs"]
    assert (images["name"], images["datatype"], [*map(int, images["shape"])]) == ("images", "FP32", [-1, 8, 8, 3])
    assert (scores["name"], scores["datatype"], [*map(int, scores["shape"])]) == ("scores", "FP32", [-1, 4])


def test_scores_are_the_models(infer):
    np.testing.assert_allclose(infer(images=IMAGES).as_numpy("scores"), SCORES, atol=1e-6)


@pytest.mark.parametrize(("version", "number"), [("1", 1), ("2", 2), ("stable", 1), ("canary", 2)])
def test_a_version_is_a_number_or_a_label(infer, version, number):
    result = infer(images=IMAGES, version=version)
    expected = stand_in.expected_scores(IMAGES, number)
    np.testing.assert_allclose(result.as_numpy("scores"), expected, atol=1e-6)
    answer = result.get_response()
    assert (answer["model_version"] if isinstance(answer, dict) else answer.model_version) == str(number)


def test_names_of_inputs_choose_the_signature(infer):
    result = infer(image_bytes=np.array(FILES, object))
    top = stand_in.expected_top(FILES, 2)
    assert [[label.decode() for label in row] for row in result.as_numpy("labels")] == [
        [label for label, _ in row] for row in top
    ]
    np.testing.assert_allclose(result.as_numpy("scores"), [[score for _, score in row] for row in top], atol=1e-5)
    assert result.as_numpy("classes").dtype == np.int32


def test_a_parameter_chooses_the_signature(infer):
    result = infer(images=IMAGES, parameters={"signature_name": "features"})
    expected = stand_in.expected_features(IMAGES, 2)
    np.testing.assert_allclose(result.as_numpy("features"), expected, atol=1e-5)


def test_outputs_may_be_chosen(infer):
    result = infer(image_bytes=np.array(FILES, object), outputs=["scores"])
    assert result.as_numpy("labels") is None
    assert result.as_numpy("scores").shape == (3, 4)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES[..., :2]}, r"must have shape \[\?, 8, 8, 3\]"),
        ({"pictures": IMAGES}, r"takes the inputs \['images'\], but got \['pictures'\]"),
        ({"images": np.array(FILES, object)}, "must be of type float32, but got string.* 'serving_bytes' takes image"),
        ({"image_bytes": np.array([FILES[0], b"no image"], object)}, "Image 1 of the request cannot be read"),
        ({"image_bytes": np.array([base64.b64encode(FILES[0])], object)}, "base64 text instead of an image"),
    ],
)
def test_a_fault_of_the_request_is_told(infer, arrays, message):
    from tritonclient.utils import InferenceServerException

    with pytest.raises(InferenceServerException, match=message) as error:
        infer(**arrays)
    assert error.value.status() in ("400", "StatusCode.INVALID_ARGUMENT")


def test_an_unknown_output_or_model_is_told(infer, client):
    from tritonclient.utils import InferenceServerException

    with pytest.raises(InferenceServerException, match=r"twice|a name of its own"):
        infer(images=IMAGES, outputs=["scores", "scores"])
    with pytest.raises(InferenceServerException, match=r"asks for \['more'\]"):
        infer(images=IMAGES, outputs=["more"])
    with pytest.raises(InferenceServerException, match="Servable not found"):
        client.get_model_metadata("absent")
    with pytest.raises(InferenceServerException, match="Unrecognized servable version label: newest"):
        client.get_model_metadata(NAME, "newest")


def test_values_outside_of_raw_bytes_by_grpc(embedded, grpc_stubs):
    """Triton's client always sends raw bytes; others fill the typed fields, and are answered by these."""
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    request = service_pb2.ModelInferRequest(model_name=NAME, id="seven")
    tensor = request.inputs.add(name="images", datatype="FP32", shape=IMAGES.shape)
    tensor.contents.fp32_contents.extend(IMAGES.ravel().tolist())
    with grpc.insecure_channel(embedded.grpc_target) as channel:
        answer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request)
    (scores,) = answer.outputs
    assert (answer.id, scores.datatype, list(scores.shape), answer.raw_output_contents[:]) == (
        "seven",
        "FP32",
        [3, 4],
        [],
    )
    np.testing.assert_allclose(np.reshape(scores.contents.fp32_contents, (3, 4)), SCORES, atol=1e-6)


def test_float16_is_answered_in_raw_bytes_by_grpc():
    """The protocol has no typed field for it."""
    from tritonclient.grpc import service_pb2

    from keras_mixer.serving.server.open_inference.grpc import _infer

    class Service:
        async def predict(self, *_arguments, **_settings):
            return 1, None, {"scores": np.float16([[0.5, 2]])}

    answer = asyncio.run(_infer(Service(), service_pb2.ModelInferRequest(model_name=NAME)))
    (scores,) = answer.outputs
    assert (scores.datatype, list(scores.shape)) == ("FP16", [1, 2])
    np.testing.assert_array_equal(np.frombuffer(answer.raw_output_contents[0], "<f2"), [0.5, 2])


def test_a_number_that_its_type_cannot_hold_is_told():
    tensor = InputTensor("counts", "INT8", (2,))
    assert tensor.array([-128, 127]).tolist() == [-128, 127]
    with pytest.raises(RequestError, match="a number that INT8 cannot hold"):
        tensor.array([0, 128])


# Plain requests


@pytest.fixture
def post(embedded):
    def call(body, path=f"models/{NAME}/infer", **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        return requests.post(f"{embedded.url}/v2/{path}", data=body, headers=headers, timeout=30)

    return call


def tensor(data, shape=(1, 8, 8, 3), datatype="FP32", name="images", **more):
    return {"name": name, "shape": list(shape), "datatype": datatype, "data": data, **more}


@pytest.mark.parametrize("data", [IMAGES[:1].ravel().tolist(), IMAGES[:1].tolist()], ids=["flat", "nested"])
def test_values_in_json(post, data):
    answer = post({"id": "one", "inputs": [tensor(data)]}).json()
    assert {key: answer[key] for key in ("id", "model_name", "model_version")} == {
        **{"id": "one", "model_name": NAME, "model_version": "2"}
    }
    (scores,) = answer["outputs"]
    assert (scores["name"], scores["datatype"], scores["shape"]) == ("scores", "FP32", [1, 4])
    np.testing.assert_allclose(scores["data"], SCORES[0], atol=1e-6)


def test_an_image_in_base64(post):
    """As MLServer reads it, by the tensor's content type."""
    text = base64.b64encode(FILES[0]).decode()
    file = tensor([text], (1,), "BYTES", "image_bytes", parameters={"content_type": "base64"})
    outputs = {row["name"]: row["data"] for row in post({"inputs": [file]}).json()["outputs"]}
    assert outputs["labels"][0] == stand_in.expected_top(FILES[:1], 2)[0][0][0]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "JSON Parse error"),
        ([], "must be an object"),
        ({}, "'inputs' must be a list of one tensor or more"),
        ({"inputs": "images"}, "'inputs' must be a list of objects"),
        ({"inputs": [tensor([0]), tensor([0])]}, "a name of its own"),
        ({"inputs": [tensor([0])], "parameters": 3}, "'parameters' must be an object"),
        ({"inputs": [tensor([0])], "parameters": {"signature_name": 3}}, "'signature_name' must be a string"),
        ({"inputs": [tensor([0], datatype="FLOAT")]}, "must have a datatype of BOOL, "),
        ({"inputs": [tensor([0], shape=(1, -1))]}, "declares a shape that is not accepted"),
        ({"inputs": [tensor([0], shape=("1",))]}, "must have a shape, a list of whole numbers"),
        ({"inputs": [tensor([0])]}, "has 1 values, but its shape"),
        ({"inputs": [tensor([], shape=(0, 2**62, 8, 3))]}, "declares a shape that is not accepted"),
        ({"inputs": [tensor([0], shape=(1,) * 100)]}, "declares a shape that is not accepted"),
        ({"inputs": [tensor(json.loads("[" * 70 + "0" + "]" * 70))]}, "lists are nested deeper"),
        (b'{"id": "\\ud800", "inputs": []}', "JSON Parse error"),
        ({"id": [1], "inputs": [tensor([0])]}, "'id' must be a string"),
        ({"inputs": [tensor(DEEP, (1,), "BYTES", parameters={"content_type": "base64"})]}, "nested"),
        ({"inputs": [tensor([0], name="x" * 10_000)]}, "xxx ..."),
        ({"inputs": [tensor(["a"] * 192)]}, "must hold values of type float32, but got: string"),
        ({"inputs": [tensor([0] * 192, datatype="INT32")]}, "must be of type float32, but got int32"),
        ({"inputs": [{"name": "images", "shape": [1, 8, 8, 3], "datatype": "FP32"}]}, "neither 'data' nor"),
        ({"inputs": [tensor([0], parameters={"binary_data_size": 8})]}, "binary_data_size of 8, but 0 bytes are left"),
    ],
)
def test_a_fault_in_json_is_told(post, body, message):
    response = post(body)
    assert (response.status_code, message in response.json()["error"]) == (400, True), response.text


def test_faults_in_binary_values_are_told(post):
    def binary(raw, shape=(1, 8, 8, 3), datatype="FP32", name="images"):
        head = tensor(0, shape, datatype, name, parameters={"binary_data_size": len(raw)})
        text = json.dumps({"inputs": [head]}).encode()
        return post(text + raw, **{"Inference-Header-Content-Length": str(len(text))})

    assert binary(IMAGES[:1].tobytes()).status_code == 200
    assert "not a multiple of 4" in binary(b"abc").json()["error"]
    assert "has 1 values" in binary(b"abcd").json()["error"]
    assert "cut short at byte 0" in binary(b"\xff\xff\xff\xffabc", (1,), "BYTES", "image_bytes").json()["error"]
    for length in ("9", "9" * 5000):
        response = post(b"{}", **{"Inference-Header-Content-Length": length})
        assert (response.status_code, "must be a number of bytes up to 2" in response.json()["error"]) == (400, True)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2", 200),
        ("GET", "/v2/health/live", 200),
        ("GET", "/v2/health/ready", 200),
        ("GET", f"/v2/models/{NAME}/versions/1/ready", 200),
        ("GET", f"/v2/models/{NAME}/versions/{2**63 - 1}", 404),
        ("GET", f"/v2/models/{NAME}/versions/{2**63}", 400),
        ("GET", f"/v1/models/{NAME}/versions/{2**63 - 1}", 404),
        ("GET", f"/v1/models/{NAME}/versions/{2**63}", 400),
        ("GET", f"/v2/models/{NAME}/infer", 404),
        ("POST", f"/v2/models/{NAME}", 404),
        ("GET", "/v2/repository", 404),
        ("GET", "/v20", 404),
        ("HEAD", "/v2/health/ready", 200),
        ("HEAD", f"/v2/models/{NAME}/ready", 200),
        ("HEAD", "/v2/repository", 404),
    ],
)
def test_addresses(embedded, method, path, status):
    response = requests.request(method, embedded.url + path, timeout=30)
    assert response.status_code == status
    assert bool(response.content) == (method != "HEAD")
    assert method == "HEAD" or response.json()
