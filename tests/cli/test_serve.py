import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
import requests
import tensorflow as tf
from command_line import error_line

from keras_mixer.cli import main


class _Double(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32, name="x")])
    def __call__(self, x):
        return {"y": 2 * x}


@pytest.fixture(scope="module")
def base_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "double"
    model = _Double()
    tf.saved_model.save(model, str(path / "1"), signatures={"serving_default": model.__call__})
    return path


def serve(*arguments, errors=subprocess.PIPE):
    command = [sys.executable, "-u", "-m", "keras_mixer", "serve", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ})


def end_by(end, process):
    """Ends a server by a signal, as it should be."""
    process.send_signal(end)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in (errors or "")


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_it_serves_until_sigterm_and_exits_with_0(base_path):
    process = serve(base_path, "--name", "twice", "--label", "stable=1", "--rest-port", "0", "--port", "0")
    try:
        kind, address = process.stdout.readline().split()
        assert kind == "REST"
        assert address.startswith("http://127.0.0.1:")
        assert address.endswith("/v1/models/twice:predict")
        for path in (address, address.replace(":predict", "/labels/stable:predict")):
            assert requests.post(path, json={"instances": [1.5]}, timeout=30).json() == {"predictions": [3.0]}
        assert process.stdout.readline().startswith("gRPC  127.0.0.1:")
        assert process.stdout.readline().split() == ["Page", address.partition("v1/")[0]]
        assert "development" in process.stdout.readline()
        end_by(signal.SIGTERM, process)
    finally:
        process.kill()
        process.communicate()


def test_a_bundle_serves_what_its_configuration_comes_to_say_until_sigint(base_path, tmp_path):
    pytest.importorskip("tensorflow_serving", reason="pip install --no-deps tensorflow-serving-api")
    versions = tmp_path / "models" / "double"
    shutil.copytree(base_path / "1", versions / "1")

    def configure(text):
        (tmp_path / "new").write_text(text)
        (tmp_path / "new").replace(tmp_path / "models.config")

    def configuration(version):
        return (
            'model_config_list { config { name: "double" base_path: "/models/double" model_version_policy { '
            f"specific {{ versions: 1 versions: {version} }} }} "
            f'version_labels {{ key: "canary" value: {version} }} }} }}'
        )

    def canary():
        (status,) = requests.get(address, timeout=30).json()["model_version_status"]
        return {key: status[key] for key in ("version", "state")}

    configure(configuration(1))
    log = tmp_path / "log"
    with open(log, "w") as errors:
        process = serve(tmp_path, "--rest-port", "0", "--no-grpc", "--poll-seconds", "0.1", errors=errors)
    try:
        address = process.stdout.readline().split()[1].replace(":predict", "/labels/canary")
        shutil.copytree(base_path / "1", versions / ".2")
        (versions / ".2").rename(versions / "2")
        configure("no configuration")
        fault = "The settings of the models cannot be read again: "
        wait_for(lambda: fault in log.read_text())
        assert canary() == {"version": "1", "state": "AVAILABLE"}
        time.sleep(0.5)  # for some more looks at the file
        configure(configuration(2))
        wait_for(lambda: canary() == {"version": "2", "state": "AVAILABLE"})
        assert log.read_text().count(fault) == 1
        assert requests.post(f"{address}:predict", json={"instances": [2]}, timeout=30).json() == {"predictions": [4.0]}
        end_by(signal.SIGINT, process)
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Name a model's base path"),
        (["absent"], "There is no folder"),
        (["empty"], "has no versions"),
        (["model.keras"], "model.keras is a file: export the model"),
        (["run"], "run is a run folder: export it with `keras-mixer export"),
        (["models"], "models is not a model, but contains models: serve"),
        (["models/digits/1"], "models/digits/1 is one version of a model: serve its parent"),
        (["https://example.org/digits"], "copy https:/example.org/digits here"),
        (["absent", "--label", "stable"], "--label takes LABEL=VERSION"),
        (["absent", "--versions", "newest"], "--versions takes"),
        (["absent", "--rest-port", "99999"], "an integer from 0 to 65535"),
        (["absent", "--no-batching", "--max-batch-size", "8"], "cannot be used together"),
        (["absent", "--no-grpc", "--port", "0"], "cannot be used together"),
        (["absent", "--max-batch-size", "0"], "max_batch_size must be 1 or more"),
        (["absent", "--max-body-mb", "inf"], "inf is not a finite number"),
        (["absent", "--max-image-megapixels", "nan"], "nan is not a finite number"),
        (["absent", "--max-megapixels", "0"], "0.0 is not in the range x>0"),
        (["absent", "--poll-seconds", "inf"], "inf is not a finite number"),
        (["absent", "--model-config-file", "other.config"], "other.config already names the models"),
        (["bundle", "--model-config-file", "other.config"], "other.config already names the models"),
        (["bundle", "--label", "stable=1"], "models.config already names the models"),
        (["--model-config-file", "models.config"], "There is no model configuration"),
        (["one", "two", "--name", "three"], "for one BASE_PATH"),
        (["one", "--batching-parameters-file", "absent"], "There is no batching configuration"),
    ],
)
def test_bad_input_gives_one_line_and_exit_status_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "models.config").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "model.keras").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.keras").touch()
    (tmp_path / "models" / "digits" / "1").mkdir(parents=True)
    (tmp_path / "models" / "digits" / "1" / "saved_model.pb").touch()
    ports = [] if {"--rest-port", "--port", "--no-grpc"} & set(arguments) else ["--rest-port", "0", "--port", "0"]
    with pytest.raises(SystemExit) as exit_:
        main(["serve", *arguments, *ports])
    assert exit_.value.code == 2
    assert message in error_line(capsys.readouterr().err)


def test_a_damaged_model_is_one_line_of_the_command(tmp_path):
    (tmp_path / "double" / "1").mkdir(parents=True)
    (tmp_path / "double" / "1" / "saved_model.pb").write_bytes(b"no SavedModel")
    process = serve(tmp_path / "double", "--rest-port", "0", "--no-grpc")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert error_line(errors).startswith("Error: Version 1 of double cannot be served: ")


def test_a_port_in_use_is_told(base_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SystemExit) as exit_:
        main(["serve", str(base_path), "--no-grpc", "--rest-port", str(taken.getsockname()[1])])
    assert exit_.value.code == 2
    assert "REST cannot listen" in capsys.readouterr().err


def test_a_port_in_use_is_told_without_grpcs_own_words(base_path):
    pytest.importorskip("tensorflow_serving", reason="pip install --no-deps tensorflow-serving-api")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = serve(base_path, "--rest-port", "0", "--port", str(taken.getsockname()[1]))
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert [line for line in errors.splitlines() if line.startswith("Error: gRPC cannot listen on 127.0.0.1:")]
    assert "add_port" not in errors


def test_a_bundle_is_served_by_its_configuration(base_path, tmp_path, capsys, monkeypatch):
    pytest.importorskip("tensorflow_serving", reason="pip install --no-deps tensorflow-serving-api")
    (tmp_path / "models.config").write_text(
        'model_config_list { config { name: "double" base_path: "/models/double" '
        'version_labels { key: "stable" value: 7 } } }'
    )
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "double").symlink_to(base_path)
    with pytest.raises(SystemExit) as exit_:
        main(["serve", str(tmp_path), "--rest-port", "0", "--port", "0"])
    assert exit_.value.code == 2
    assert (
        "'stable' names version 7 of double, which is not served. The versions served are [1]"
        in capsys.readouterr().err
    )
