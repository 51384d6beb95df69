"""The servers that the tests talk to: the embedded one, and a TF Serving where there is one."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
import stand_in

from keras_mixer import serving
from keras_mixer.wire import stubs_installed


@pytest.fixture(autouse=True)
def clean_keras_state():
    """Serving knows no Keras: there is nothing to clean, and cleaning takes long beside loaded SavedModels."""


@dataclass(frozen=True)
class Wire:
    """Where a server listens."""

    url: str
    grpc_target: str

    @property
    def model(self) -> str:
        return f"{self.url}/v1/models/{stand_in.NAME}"


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    return stand_in.write_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="session")
def embedded(bundle):
    model = serving.ModelConfig(bundle / stand_in.NAME, versions=(1, 2), labels=stand_in.LABELS)
    limits = serving.Limits(max_body_bytes=4 * 2**20, read_timeout=1.0)
    with serving.Server(model, rest_port=0, port=0 if stubs_installed() else None, limits=limits) as server:
        yield server


@pytest.fixture(scope="session")
def grpc_stubs():
    """What a test of gRPC needs."""
    return pytest.importorskip("tensorflow_serving", reason="pip install --no-deps tensorflow-serving-api")


@pytest.fixture(scope="session", params=["embedded", "tensorflow_serving"])
def wire(request):
    """Each conformance test runs against the embedded server, and against TF Serving wherever there is one."""
    if request.param == "embedded":
        server = request.getfixturevalue("embedded")
        yield Wire(server.url, server.grpc_target if stubs_installed() else "")
    elif url := os.environ.get("TF_SERVING_URL"):
        host = urlsplit(url).hostname
        yield Wire(url.rstrip("/"), os.environ.get("TF_SERVING_GRPC", f"{host}:8500"))
    elif binary := shutil.which("tensorflow_model_server"):
        yield from _model_server(binary, request.getfixturevalue("bundle"), request.getfixturevalue("free_ports"))
    else:
        pytest.skip("not tested on TF Serving: no tensorflow_model_server on the PATH, and TF_SERVING_URL is not set")


@pytest.fixture(scope="session")
def free_ports():
    import socket

    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


def _model_server(binary, bundle, ports):
    rest_port, port = ports
    process = subprocess.Popen(
        [
            binary,
            f"--rest_api_port={rest_port}",
            f"--port={port}",
            f"--model_config_file={bundle / 'models.config'}",
            f"--monitoring_config_file={bundle / 'monitoring.config'}",
            "--allow_version_labels_for_unavailable_models",
        ]
    )
    try:
        wire = Wire(f"http://127.0.0.1:{rest_port}", f"127.0.0.1:{port}")
        serving.Client(wire.url, model=stand_in.NAME).wait_until_ready(120)
        yield wire
    finally:
        process.terminate()
        process.wait(30)
