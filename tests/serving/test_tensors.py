import base64
import json
import math
import tracemalloc

import ml_dtypes
import numpy as np
import pytest

from keras_mixer.serving.errors import RequestError
from keras_mixer.serving.server.tensors import TensorSpec, from_json, parse_json, to_json


def spec(dtype, *shape):
    return TensorSpec("x", np.dtype(dtype), shape)


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "int8", "uint8", "int32", "int64", "uint64", "bool"]
)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 1, 3)])
def test_numbers_come_back_as_they_went(dtype, shape):
    array = np.random.default_rng(0).integers(0, 2, size=shape).astype(dtype)
    read = from_json(array.tolist(), spec(dtype, *shape))
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, array)


def test_float32_is_written_with_no_more_digits_than_it_has():
    values = np.array([0.1, 1 / 3, 3.4e38, -1e-45], np.float32)
    assert b"0.1," in to_json({"x": values}, rows=True)
    np.testing.assert_array_equal(np.float32(json.loads(to_json({"x": values}, rows=True))["predictions"]), values)


def test_strings_are_read_as_text_or_base64():
    data = bytes(range(256))
    unpadded = base64.b64encode(data).decode().rstrip("=")
    read = from_json([["é"], [{"b64": unpadded}]], spec(object, None, 1))
    assert read.tolist() == [["é".encode()], [data]]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ([1.5], spec("int32", None)),
        ([True], spec("int32", None)),
        ([1.0, True], spec("float32", None)),
        (["1"], spec("float32", None)),
        ([1.0] * 3 + ["x" * 100_000], spec("float32", None)),
        ([None], spec("float32", None)),
        ([{}], spec("float32", None)),
        ([1], spec("bool", None)),
        ([300], spec("uint8", None)),
        ([2**63], spec("int64", None)),
        ([-1], spec("uint64", None)),
        ([1], spec(object, None)),
        ([{"b64": "*"}], spec(object, None)),
        ([{"b64": 3}], spec(object, None)),
        ([{"b64": "", "more": 1}], spec(object, None)),
        ([[1.0], [2.0, 3.0]], spec("float32", None, None)),
        ([[1.0], 2.0], spec("float32", None, None)),
        ([[[1.0]]], spec("float32", None, None)),
    ],
)
def test_what_does_not_fit_is_refused(value, wanted):
    with pytest.raises(RequestError) as failure:
        from_json(value, wanted)
    assert failure.value.http_status == 400
    assert "'x'" in failure.value.message


@pytest.mark.parametrize("dtype", ["complex64", ml_dtypes.bfloat16])
def test_a_type_that_json_cannot_carry_is_refused(dtype):
    with pytest.raises(RequestError, match="cannot be sent as JSON") as failure:
        from_json([1], spec(dtype, None))
    assert failure.value.http_status == 501
    with pytest.raises(RequestError, match="cannot be written as JSON: x") as failure:
        to_json({"x": np.ones(2, dtype)}, rows=True)
    assert failure.value.http_status == 501


@pytest.mark.parametrize("body", ['{"x": "' + 2**20 * "a", '"a\\' * 2**10], ids=["plain", "escaped"])
def test_an_unfinished_text_takes_little_memory(body):
    """Such as a photograph in base64 that is cut short."""
    tracemalloc.start()
    try:
        with pytest.raises(RequestError, match="JSON Parse error"):
            parse_json(body.encode())
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", [(2,), (2, 4), (2, 3, 1), ()])
def test_shapes_must_fit(shape):
    wanted = spec("float32", None, 3)
    wanted.check(np.dtype("float32"), (5, 3))
    with pytest.raises(RequestError, match=r"must have shape \[\?, 3\], but got"):
        wanted.check(np.dtype("float32"), shape)


def test_outputs_that_are_not_finite_are_written_as_python_reads_them():
    body = json.loads(to_json({"x": np.float32([1, math.nan, -math.inf])}, rows=False))["outputs"]
    assert body[0] == 1
    assert math.isnan(body[1])
    assert body[2] == -math.inf


@pytest.mark.parametrize("shapes", [((2,), (3,)), ((2,), ()), ((), ())])
def test_outputs_without_a_common_first_axis_have_no_rows(shapes):
    outputs = {name: np.zeros(shape, np.float32) for name, shape in zip("ab", shapes, strict=True)}
    with pytest.raises(RequestError, match="columnar"):
        to_json(outputs, rows=True)
    assert json.loads(to_json(outputs, rows=False))["outputs"] == {name: a.tolist() for name, a in outputs.items()}
