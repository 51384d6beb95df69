"""What a client may expect of TF Serving's wire. The same tests run against the embedded server and the real one."""

import base64
import io

import numpy as np
import pytest
import requests
import stand_in
from PIL import Image

from keras_mixer import serving

IMAGES = stand_in.images(seed=1, count=3)
FILES = [stand_in.png(seed) for seed in range(3)]


def b64(data: bytes) -> dict:
    return {"b64": base64.b64encode(data).decode()}


def predict(wire, body, path=""):
    response = requests.post(f"{wire.model}{path}:predict", json=body, timeout=30)
    assert response.headers["Content-Type"].startswith("application/json")
    return response


def answer(wire, body, path=""):
    response = predict(wire, body, path)
    assert response.status_code == 200, response.text
    return response.json()


def test_rows_of_one_input_give_predictions_without_a_name(wire):
    result = answer(wire, {"instances": IMAGES.tolist()})
    assert list(result) == ["predictions"]
    np.testing.assert_allclose(result["predictions"], stand_in.expected_scores(IMAGES, 2), atol=1e-6)


def test_columns_of_one_input_give_outputs_without_a_name(wire):
    for inputs in (IMAGES.tolist(), {"images": IMAGES.tolist()}):
        result = answer(wire, {"signature_name": "features", "inputs": inputs})
        assert list(result) == ["outputs"]
        np.testing.assert_allclose(result["outputs"], stand_in.expected_features(IMAGES, 2), atol=1e-6)


def test_rows_of_bytes_give_a_list_of_objects(wire):
    expected = stand_in.expected_top(FILES, 2)
    for instances in ([b64(data) for data in FILES], [{"image_bytes": b64(data)} for data in FILES]):
        rows = answer(wire, {"signature_name": "serving_bytes", "instances": instances})["predictions"]
        assert [set(row) for row in rows] == [{"classes", "scores", "labels"}] * 3
        assert [row["labels"] for row in rows] == [[label for label, _ in top] for top in expected]
        np.testing.assert_allclose(
            [row["scores"] for row in rows], [[s for _, s in top] for top in expected], atol=1e-6
        )


def test_columns_of_bytes_give_an_object_of_lists(wire):
    body = {"signature_name": "serving_bytes", "inputs": {"image_bytes": [b64(data) for data in FILES]}}
    outputs = answer(wire, body)["outputs"]
    assert [[stand_in.CLASSES[k] for k in row] for row in outputs["classes"]] == outputs["labels"]
    assert outputs["labels"] == [[label for label, _ in top] for top in stand_in.expected_top(FILES, 2)]


def test_several_inputs_are_named_in_each_row(wire):
    weights = [1.0, 0.5, -2.0]
    expected = stand_in.expected_scores(IMAGES, 2) * np.array(weights)[:, None]
    rows = [{"images": image.tolist(), "weight": weight} for image, weight in zip(IMAGES, weights, strict=True)]
    by_rows = answer(wire, {"signature_name": "weighted", "instances": rows})["predictions"]
    columns = {"images": IMAGES.tolist(), "weight": weights}
    by_columns = answer(wire, {"signature_name": "weighted", "inputs": columns})["outputs"]
    np.testing.assert_allclose(by_rows, expected, atol=1e-6)
    np.testing.assert_allclose(by_columns, expected, atol=1e-6)


def test_only_outputs_whose_name_ends_in_bytes_are_base64(wire):
    rows = answer(wire, {"signature_name": "echo", "instances": ["plain", b64(b"coded")]})["predictions"]
    assert rows == [
        {"echo_bytes": b64(b"plain"), "echo": "plain", "length": 5},
        {"echo_bytes": b64(b"coded"), "echo": "coded", "length": 5},
    ]


@pytest.mark.parametrize(
    ("path", "version"), [("", 2), ("/versions/1", 1), ("/versions/2", 2), ("/labels/stable", 1), ("/labels/canary", 2)]
)
def test_versions_and_labels_choose_the_model(wire, path, version):
    result = answer(wire, {"instances": IMAGES.tolist()}, path)
    np.testing.assert_allclose(result["predictions"], stand_in.expected_scores(IMAGES, version), atol=1e-6)


ONE = [IMAGES[0].tolist()]
BAD_BODIES = {
    "neither instances nor inputs": {},
    "both instances and inputs": {"instances": ONE, "inputs": ONE},
    "no instances": {"instances": []},
    "instances that are no list": {"instances": 3},
    "an unknown signature": {"signature_name": "missing", "instances": ONE},
    "a signature that is no string": {"signature_name": 3, "instances": ONE},
    "a wrong shape": {"instances": [[1.0, 2.0]]},
    "ragged lists": {"instances": [[[1.0], [2.0, 3.0]]]},
    "a string for a number": {"instances": ["one"]},
    "null for a number": {"instances": [None]},
    "a number for a string": {"signature_name": "serving_bytes", "instances": [3]},
    "an input of another name": {"inputs": {"pixels": ONE}},
    "a missing input": {"signature_name": "weighted", "inputs": {"images": ONE}},
    "base64 that is none": {"signature_name": "serving_bytes", "instances": [{"b64": "*"}]},
    "a file that is no image": {"signature_name": "serving_bytes", "instances": [b64(b"no image")]},
    "an empty file": {"signature_name": "serving_bytes", "instances": [b64(b"")]},
    "a file cut short": {"signature_name": "serving_bytes", "instances": [b64(FILES[0][:-60])]},
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_a_bad_request_is_told_why(wire, body):
    response = predict(wire, body)
    assert response.status_code == 400
    assert list(response.json()) == ["error"]
    assert response.json()["error"]


def test_invalid_json_is_told_so(wire):
    for data in (b"", b"{", b'{"instances": [1,]}', b"[1, 2]", b"\xff\xfe"):
        response = requests.post(f"{wire.model}:predict", data=data, timeout=30)
        assert response.status_code == 400
        assert response.json()["error"]


@pytest.mark.parametrize(
    ("path", "status"), [("stand_in/versions/9", 404), ("nobody", 404), ("stand_in/labels/nothing", 400)]
)
def test_unknown_models_versions_and_labels(wire, path, status):
    response = requests.post(f"{wire.url}/v1/models/{path}:predict", json={"instances": ONE}, timeout=30)
    assert response.status_code == status
    assert response.json()["error"]


def test_status(wire):
    expected = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    both = requests.get(wire.model, timeout=30).json()
    assert sorted(both["model_version_status"], key=str) == [{"version": "1", **expected}, {"version": "2", **expected}]
    one = requests.get(f"{wire.model}/versions/1", timeout=30).json()
    assert one == {"model_version_status": [{"version": "1", **expected}]}
    for path in ("/versions/9", "_too"):
        missing = requests.get(f"{wire.model}{path}", timeout=30)
        assert missing.status_code == 404
        assert missing.json()["error"]


def test_metadata(wire):
    document = requests.get(f"{wire.model}/versions/1/metadata", timeout=30).json()
    assert document["model_spec"] == {"name": "stand_in", "signature_name": "", "version": "1"}
    signatures = document["metadata"]["signature_def"]["signature_def"]
    assert set(stand_in.SIGNATURES) <= set(signatures)
    images = signatures["serving_default"]["inputs"]["images"]
    assert images["dtype"] == "DT_FLOAT"
    assert [dim["size"] for dim in images["tensor_shape"]["dim"]] == ["-1", "8", "8", "3"]
    assert signatures["serving_bytes"]["outputs"]["labels"]["dtype"] == "DT_STRING"
    assert signatures["serving_default"]["method_name"] == "tensorflow/serving/predict"


def test_metrics(wire):
    answer(wire, {"instances": ONE})
    text = requests.get(f"{wire.url}/monitoring/prometheus/metrics", timeout=30).text
    lines = [line for line in text.splitlines() if line.startswith(":tensorflow:serving:request_latency_count")]
    assert any('API="predict"' in line and 'entrypoint="REST"' in line and "stand_in" in line for line in lines)


@pytest.fixture
def channel(wire, grpc_stubs):
    import grpc

    with grpc.insecure_channel(wire.grpc_target) as channel:
        yield channel


def grpc_request(signature, inputs, **model_spec):
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    spec = {"name": stand_in.NAME, "signature_name": signature, **model_spec}
    request = predict_pb2.PredictRequest(model_spec=spec)
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def grpc_predict(channel, request):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=30)
    return response.model_spec, {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}


def test_grpc_predict(channel):
    spec, outputs = grpc_predict(channel, grpc_request("", {"images": IMAGES}))
    assert (spec.name, spec.version.value, spec.signature_name) == ("stand_in", 2, "serving_default")
    np.testing.assert_allclose(outputs["scores"], stand_in.expected_scores(IMAGES, 2), atol=1e-6)
    for choice in ({"version": {"value": 1}}, {"version_label": "stable"}):
        spec, outputs = grpc_predict(channel, grpc_request("serving_bytes", {"image_bytes": FILES}, **choice))
        assert spec.version.value == 1
        assert [[label.decode() for label in row] for row in outputs["labels"]] == [
            [label for label, _ in top] for top in stand_in.expected_top(FILES, 1)
        ]


def test_grpc_output_filter(channel):
    request = grpc_request("serving_bytes", {"image_bytes": FILES})
    request.output_filter.append("labels")
    assert list(grpc_predict(channel, request)[1]) == ["labels"]


@pytest.mark.parametrize(
    ("signature", "inputs", "spec", "code"),
    [
        ("", {"images": IMAGES}, {"name": "nobody"}, "NOT_FOUND"),
        ("", {"images": IMAGES}, {"version": {"value": 9}}, "NOT_FOUND"),
        ("", {"images": IMAGES}, {"version_label": "nothing"}, "INVALID_ARGUMENT"),
        ("missing", {"images": IMAGES}, {}, "FAILED_PRECONDITION"),
        ("", {"pixels": IMAGES}, {}, "INVALID_ARGUMENT"),
        ("", {"images": IMAGES[:, :4]}, {}, "INVALID_ARGUMENT"),
        ("", {"images": IMAGES.astype(np.float64)}, {}, "INVALID_ARGUMENT"),
        ("serving_bytes", {"image_bytes": [FILES[0][:-60]]}, {}, "INVALID_ARGUMENT"),
    ],
)
def test_grpc_errors(channel, signature, inputs, spec, code):
    import grpc

    with pytest.raises(grpc.RpcError) as failure:
        grpc_predict(channel, grpc_request(signature, inputs, **spec))
    assert failure.value.code().name == code
    assert failure.value.details()


def test_grpc_metadata_and_status_agree_with_rest(wire, channel):
    rest = serving.Client(wire.url, model=stand_in.NAME)
    grpc = serving.Client(wire.grpc_target, model=stand_in.NAME, protocol="grpc")
    assert grpc.metadata() == rest.metadata()
    assert sorted(grpc.status(), key=str) == sorted(rest.status(), key=str)


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_the_client(wire, protocol, request):
    if protocol == "grpc":
        request.getfixturevalue("grpc_stubs")
    url = wire.url if protocol == "rest" else wire.grpc_target
    with serving.Client(url, model=stand_in.NAME, protocol=protocol, label="stable", batch_size=2) as client:
        arrays = [np.asarray(Image.open(io.BytesIO(data))) for data in FILES]
        expected = [[label for label, _ in top[:2]] for top in stand_in.expected_top(FILES, 1)]
        for images in (FILES, arrays, np.stack(arrays), [FILES[0], *arrays[1:]]):
            tops = client.predict(images, top=2)
            assert [[label for label, _ in top] for top in tops] == expected
        np.testing.assert_allclose(client.features(IMAGES), stand_in.expected_features(IMAGES, 1), atol=1e-6)
        with pytest.raises(serving.ServingError, match=r"(?i)image|png"):
            client.predict(b"no image")
