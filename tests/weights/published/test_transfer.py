import hashlib
import os
import signal
import socket
import ssl
import subprocess
import sys

import mirror
import pytest
import trustme

from keras_mixer import weights

PATH = "/mixer_models/gsam/Mixer-S_32.npz"
CONTENT = bytes(range(256)) * 4096  # 1 MiB
FETCH = "import keras_mixer; print(keras_mixer.weights.download('mixer_s32', 'gsam'))"


@pytest.fixture(autouse=True)
def published(server):
    server.files[PATH] = CONTENT


def left_over(cache):
    return sorted(path.name for path in cache.glob("*")) if cache.exists() else []


def test_fetches_once_and_records_the_hash(server, cache):
    path = weights.download("mixer_s32", "gsam")
    assert path == cache / "mixer_s32-gsam.npz"
    assert path.read_bytes() == CONTENT
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert (cache / "mixer_s32-gsam.npz.sha256").read_text() == f"{digest}  mixer_s32-gsam.npz\n"
    assert weights.download("mixer_s32", "gsam") == path
    assert server.requests == [PATH]
    assert left_over(cache) == ["mixer_s32-gsam.npz", "mixer_s32-gsam.npz.sha256"]


def test_the_cache_lies_in_the_home_folder_by_default(tmp_path, monkeypatch):
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert weights.download("mixer_s32", "gsam") == tmp_path / ".keras" / "keras_mixer" / "mixer_s32-gsam.npz"


@pytest.mark.parametrize("fault", ["cut", "md5", "etag"])
def test_a_bad_transfer_leaves_nothing(server, cache, fault):
    server.faults[PATH] = [fault]
    with pytest.raises(OSError, match=r"mixer_s32-gsam\.npz.*KERAS_MIXER_WEIGHTS_BASE_URL") as error:
        weights.download("mixer_s32", "gsam")
    assert server.url + PATH in str(error.value)
    assert left_over(cache) == []
    assert weights.download("mixer_s32", "gsam").read_bytes() == CONTENT


def test_a_busy_server_is_asked_again(server, cache):
    server.faults[PATH] = [503, 503]
    assert weights.download("mixer_s32", "gsam").read_bytes() == CONTENT
    assert len(server.requests) == 3


def test_a_missing_file_names_the_answer(server, cache):
    del server.files[PATH]
    with pytest.raises(OSError, match="404"):
        weights.download("mixer_s32", "gsam")
    assert left_over(cache) == []


def test_without_a_network_the_error_says_what_to_do(cache, monkeypatch):
    with socket.socket() as reserved:  # bound but not listening: connections are refused
        reserved.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        monkeypatch.setenv("KERAS_MIXER_WEIGHTS_BASE_URL", address)
        with pytest.raises(OSError, match="KERAS_MIXER_WEIGHTS_BASE_URL") as error:
            weights.download("mixer_s32", "gsam")
    assert address + PATH in str(error.value)
    assert str(cache / "mixer_s32-gsam.npz") in str(error.value)
    assert "refused" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("address", ["http://example.org", "ftp://127.0.0.1", "/srv/mirror", "http://127.0.0.1.org"])
def test_a_mirror_is_https_or_on_this_machine(cache, monkeypatch, address):
    monkeypatch.setenv("KERAS_MIXER_WEIGHTS_BASE_URL", address)
    with pytest.raises(ValueError, match="https"):
        weights.download("mixer_s32", "gsam")


def test_https_is_not_left_by_a_redirect(server, cache, tmp_path, monkeypatch):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "authority.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with mirror.running(context) as secure:
        secure.files[PATH] = CONTENT
        secure.faults[PATH] = [server.url + PATH]
        monkeypatch.setenv("KERAS_MIXER_WEIGHTS_BASE_URL", secure.url)
        with pytest.raises(OSError, match="not https"):
            weights.download("mixer_s32", "gsam")
        assert left_over(cache) == []
        assert weights.download("mixer_s32", "gsam").read_bytes() == CONTENT


def test_two_processes_at_once_each_bring_a_whole_file(server, cache):
    server.faults[PATH] = ["slow", "slow"]
    both = [subprocess.Popen([sys.executable, "-c", FETCH], stdout=subprocess.PIPE, env=os.environ) for _ in range(2)]
    for process in both:
        output, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        assert output.decode().strip() == str(cache / "mixer_s32-gsam.npz")
    assert (cache / "mixer_s32-gsam.npz").read_bytes() == CONTENT
    assert left_over(cache) == ["mixer_s32-gsam.npz", "mixer_s32-gsam.npz.sha256"]


def test_a_killed_download_leaves_nothing_under_the_final_name(server, cache):
    server.faults[PATH] = ["slow"]
    process = subprocess.Popen([sys.executable, "-c", FETCH], stdout=subprocess.PIPE, env=os.environ)
    assert server.started_slowly.wait(timeout=30)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert not (cache / "mixer_s32-gsam.npz").exists()
    assert weights.download("mixer_s32", "gsam").read_bytes() == CONTENT


def test_a_terminal_sees_a_progress_bar(server, cache):
    screen, terminal = os.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.run([sys.executable, "-c", FETCH], stdout=subprocess.PIPE, stderr=terminal, env=environment)
    os.close(terminal)
    shown = os.read(screen, 1 << 16).decode()
    os.close(screen)
    assert process.returncode == 0
    assert "mixer_s32-gsam.npz" in shown
    assert "1.0 MB" in shown  # a MiB in decimal megabytes
    assert process.stdout.decode().strip() == str(cache / "mixer_s32-gsam.npz")
