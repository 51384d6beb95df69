"""Clients that others wrote, against the embedded server."""

import json
import shutil

import pytest
from foreign import PROGRAMS, largest_difference, node_environment, python_environment, run


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_openvinos_client(example, server, capsys, protocol):
    python = python_environment("ovmsclient", "ovmsclient", "protobuf<4", "setuptools<80")
    address = server.grpc_target if protocol == "grpc" else server.url.removeprefix("http://")
    arguments = [protocol, address, example.folder / "images.npz"]
    found = json.loads(run(python, PROGRAMS / "ovms.py", *arguments).splitlines()[-1])
    assert largest_difference(example, found, capsys, f"ovmsclient, {protocol}") < 1e-5


@pytest.mark.skipif(not shutil.which("npm"), reason="npm is not on the PATH")
def test_grpc_in_node_without_a_deadline(example, server, tmp_path):
    """Its descriptions of the messages come from the official Python stubs."""
    from google.protobuf import descriptor_pb2
    from tensorflow_serving.apis import prediction_service_pb2

    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def add(descriptor):
        if descriptor.name not in files:
            for needed in descriptor.dependencies:
                add(needed)
            files[descriptor.name] = descriptor_pb2.FileDescriptorProto()
            descriptor.CopyToProto(files[descriptor.name])

    add(prediction_service_pb2.DESCRIPTOR)
    descriptors = descriptor_pb2.FileDescriptorSet(file=files.values())
    (tmp_path / "descriptors").write_bytes(descriptors.SerializeToString())
    variables = node_environment("node", "onnxruntime-node", "@grpc/grpc-js", "@grpc/proto-loader")
    arguments = [tmp_path / "descriptors", server.grpc_target, example.folder / "files.txt"]
    found = json.loads(run(shutil.which("node"), PROGRAMS / "grpc.cjs", *arguments, **variables))
    rows = [[row.get(name, 0.0) for name in example.class_names] for row in found]
    assert {len(row) for row in found} == {5}
    expected = [[score if score in sorted(row)[-5:] else 0.0 for score in row] for row in example.scores.tolist()]
    assert (
        max(abs(a - b) for one, other in zip(rows, expected, strict=True) for a, b in zip(one, other, strict=True))
        < 1e-5
    )
