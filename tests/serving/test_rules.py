"""TF Serving's rules for a request, each with its place in TF Serving's source. They hold for both servers."""

import base64
import json

import numpy as np
import pytest
import requests
import stand_in

IMAGES = stand_in.images(seed=1, count=3)
CODED = base64.b64encode(stand_in.png(0)).decode()
ONE = IMAGES[:1].tolist()
ROWS = {"instances": ONE}
BOTH = {"instances": ONE, "inputs": ONE}
JSON, PREDICT, REST, HTTP = (
    "util/json_tensor.cc",
    "servables/tensorflow/predict_util.cc",
    "model_servers/http_rest_api_util.cc",
    "model_servers/http_server.cc",
)


def floats(text: str) -> bytes:
    """A request for one image whose first number is written as `text`."""
    return json.dumps({"instances": ONE}).replace(str(ONE[0][0][0][0]), text, 1).encode()


def coded(text: str) -> dict:
    return {"signature_name": "serving_bytes", "instances": [{"b64": text}]}


# What the rule says, its source, the request's body, the status, and what the answer holds.
RULES = [
    ("NaN is a number", f"{JSON}: kParseNanAndInfFlag", floats("NaN"), 200, "NaN"),
    ("Infinity and Inf are numbers", f"{JSON}: kParseNanAndInfFlag", floats("-Inf"), 200, "predictions"),
    ("what double cannot hold is none", f"{JSON}: ParseJson", floats("1e999"), 400, "JSON Parse error"),
    ("nor an integer that double cannot hold", f"{JSON}: ParseJson", floats("1" + 400 * "0"), 400, "JSON Parse error"),
    (
        "half of a surrogate pair is no text",
        f"{JSON}: ParseJson",
        b'{"signature_name": "echo", "instances": ["\\ud800"]}',
        400,
        "JSON Parse error",
    ),
    ("what float cannot hold is infinite", f"{JSON}: AddValueToTensor, GetFloat", floats("1e39"), 200, "predictions"),
    ("null is no number", f"{JSON}: AddValueToTensor", floats("null"), 400, "null"),
    ("true is no number", f"{JSON}: AddValueToTensor", floats("true"), 400, "boolean"),
    ("a text is no number", f"{JSON}: AddValueToTensor", floats('"1"'), 400, "string"),
    ("what follows the value does not count", f"{JSON}: kParseStopWhenDoneFlag", floats("0.5") + b"]]", 200, ""),
    ("a byte order mark does not count", f"{JSON}: EncodedInputStream", b"\xef\xbb\xbf" + floats("0.5"), 200, ""),
    ("an empty body is no JSON", f"{JSON}: ParseJson", b"", 400, "JSON Parse error"),
    ("a list is no request", f"{JSON}: ParseJson", b"[]", 400, "object"),
    (
        "instances and inputs exclude each other",
        f"{JSON}: FillPredictRequestFromJson",
        {"instances": ONE, "inputs": ONE},
        400,
        "",
    ),
    ("instances are never empty", f"{JSON}: FillPredictRequestFromJson", {"instances": []}, 400, ""),
    (
        "an empty signature name is the default",
        f"{PREDICT}: RunPredict",
        {"signature_name": "", "instances": ONE},
        200,
        "",
    ),
    ("a signature name is a text", f"{JSON}: FillSignature", {**ROWS, "signature_name": None}, 400, "string"),
    (
        "further names in inputs do not count",
        f"{JSON}: FillTensorMapFromInputsMap",
        {"inputs": {"images": ONE, "more": 1}},
        200,
        "outputs",
    ),
    (
        "further names in instances are refused",
        f"{JSON}: FillTensorMapFromInstancesList",
        {"instances": [{"images": ONE[0], "more": 1}]},
        400,
        "",
    ),
    ("white space in base64 does not count", f"{JSON}: Base64Unescape", coded(f"{CODED[:9]}\n {CODED[9:]}"), 200, ""),
    ("base64 may lack its padding", f"{JSON}: Base64Unescape", coded(CODED.rstrip("=")), 200, ""),
    ("a part of the padding is none", f"{JSON}: Base64Unescape", coded("AA="), 400, "base64"),
    ("base64 has no letters of URLs", f"{JSON}: Base64Unescape", coded(CODED[:-4] + "-_=="), 400, "base64"),
    (
        "a base64 object has one key",
        f"{JSON}: IsValBase64Object",
        {"signature_name": "serving_bytes", "instances": [{"b64": CODED, "more": 1}]},
        400,
        "",
    ),
]


@pytest.mark.parametrize(("body", "status", "holds"), [rule[2:] for rule in RULES], ids=[rule[0] for rule in RULES])
def test_a_rule_of_the_rest_api(wire, body, status, holds):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = requests.post(f"{wire.model}:predict", data=body, timeout=30)
    assert response.status_code == status, response.text
    assert holds in response.text


def test_white_space_and_padding_change_no_value(wire):
    """The scores are those of the plain request."""
    texts = [
        CODED,
        f" {CODED} ",
        CODED.rstrip("="),
        "\r\n".join(CODED[place : place + 76] for place in range(0, 999, 76)),
    ]
    body = {"signature_name": "serving_bytes", "instances": [{"b64": text} for text in texts if text.strip()]}
    rows = requests.post(f"{wire.model}:predict", json=body, timeout=30).json()["predictions"]
    for row in rows:
        assert row == rows[0]


def form(file: bytes) -> bytes:
    """A form as a browser sends it."""
    return requests.Request("POST", "http://host", files={"image": file}).prepare().body


URLS = CODED.replace("+", "-").replace("/", "_")  # base64's letters for addresses
# Requests that TF Serving refuses as well, and what the embedded server says besides.
MISTAKES = [
    ({"instances": [{"b64": CODED}]}, "The signature 'serving_bytes' takes image files."),
    ({"instances": [CODED]}, "The signature 'serving_bytes' takes image files."),
    ({"instances": [{"image_bytes": {"b64": CODED}}]}, "The signature 'serving_bytes' takes these."),
    ({"inputs": {"image_bytes": [{"b64": CODED}]}}, "The signature 'serving_bytes' takes these."),
    (
        {"signature_name": "serving_bytes", "instances": ONE},
        "The signature 'serving_default' takes preprocessed images.",
    ),
    (
        {"signatureName": "serving_bytes", "instances": [{"b64": CODED}]},
        "The key 'signatureName' is ignored: write 'signature_name'.",
    ),
    ({"instance": ONE}, "The key 'instance' is ignored: write 'instances'."),
    (coded(URLS), "base64 for addresses"),
    (coded(f"data:image/png;base64,{CODED}"), "it is a data URL; send only what follows its comma"),
    (coded(base64.b64encode(CODED.encode()).decode()), "base64 text instead of an image"),
    (coded(base64.b64encode(URLS.encode()).decode()), "base64 text instead of an image"),
    ({"signature_name": "serving_bytes", "instances": [CODED]}, "base64 text instead of an image"),
    ({"signature_name": "serving_bytes", "instances": [f"data:image/png;base64,{CODED}"]}, "base64 text instead"),
    (stand_in.png(0), "the body is a PNG file"),
    (form(stand_in.png(0)), "the body is a form (multipart/form-data)"),
]


@pytest.mark.parametrize(("body", "message"), MISTAKES, ids=range(len(MISTAKES)))
def test_a_usual_mistake_is_named(embedded, body, message):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = requests.post(f"{embedded.url}/v1/models/{stand_in.NAME}:predict", data=body, timeout=30)
    assert response.status_code == 400
    assert message in response.json()["error"]


@pytest.mark.parametrize(
    ("path", "status", "source"),
    [
        ("/other", 404, f"{HTTP}: Dispatch"),
        ("/favicon.ico", 404, f"{HTTP}: Dispatch"),
        ("/v1/other", 400, f"{REST}: ParseModelInfo"),
        ("/V1/MODELS/stand_in", 200, f"{REST}: kModelStatusApiRegex"),
        (f"/v1/models/stand_in/versions/{2**63}", 400, f"{REST}: SimpleAtoi"),
        ("/v1/models/stand%5Fin", 200, f"{REST}: DecodeArg"),
    ],
)
def test_a_rule_of_addresses(wire, path, status, source):
    assert requests.get(wire.url + path, timeout=30).status_code == status


@pytest.mark.parametrize("path", ["/", "/v2/health/live"])
def test_what_the_embedded_server_answers_besides(embedded, wire, path):
    """The front page and the Open Inference Protocol, to which TF Serving answers 404."""
    assert requests.get(wire.url + path, timeout=30).status_code == (200 if wire.url == embedded.url else 404)


class TestGrpc:
    """The rules of `PredictionService.Predict`."""

    @pytest.fixture
    def predict(self, wire, grpc_stubs):
        import grpc
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

        def call(images, output_filter=(), **more):
            request = predict_pb2.PredictRequest(model_spec={"name": stand_in.NAME}, output_filter=output_filter)
            for name, array in {"images": images, **more}.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
            with grpc.insecure_channel(wire.grpc_target) as channel:
                outputs = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request).outputs
            (scores,) = outputs.values()
            return tf.make_ndarray(scores)

        return call

    def test_nan_is_a_number(self, predict):
        images = IMAGES.copy()
        images[1, 3, 3, 0] = np.nan
        scores = predict(images)
        assert np.isnan(scores[1]).all()
        np.testing.assert_allclose(scores[0], stand_in.expected_scores(IMAGES, 2)[0], atol=1e-6)

    def test_no_rows_give_no_rows(self, predict):
        assert predict(IMAGES[:0]).shape == (0, stand_in.expected_scores(IMAGES, 2).shape[1])

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"output_filter": ["scores", "scores"]}, "duplicate|twice"),  # predict_util.cc: PreProcessPrediction
            ({"output_filter": ["none"]}, "none"),
            ({"more": IMAGES}, "more"),  # predict_util.cc: VerifyRequestInputsSize
        ],
    )
    def test_what_is_refused(self, predict, arguments, message):
        import grpc

        with pytest.raises(grpc.RpcError, match=message) as error:
            predict(IMAGES, **arguments)
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
