import hashlib
import json
import re

import mirror
import numpy as np
import pytest

from keras_mixer import weights
from keras_mixer.cli import main

PATH = "/mixer_models/gsam/Mixer-S_32.npz"


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with mirror.running() as running:
        monkeypatch.setenv("KERAS_MIXER_WEIGHTS_BASE_URL", running.url)
        yield running


@pytest.fixture
def content(tmp_path):
    """A checkpoint with a head for 1,000 classes."""
    np.savez(tmp_path / "small.npz", **{"head/kernel": np.ones((2, 1000), "f4"), "head/bias": np.ones(1000, "f4")})
    return (tmp_path / "small.npz").read_bytes()


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        main(["weights", *arguments])
    captured = capsys.readouterr()
    return exit_.value.code, captured.out, captured.err


def test_list_shows_the_registry(server, capsys):
    status, out, _ = run(capsys, "list", "--json")
    assert status == 0
    rows = json.loads(out)
    assert [(row["variant"], row["set"], row["classes"], row["url"]) for row in rows] == [
        (entry.variant, entry.name, entry.classes, entry.url) for entry in weights.available()
    ]
    assert {row["variant"] for row in rows if row["cached"]} == {"mixer_nano"}  # which comes with the package
    status, out, _ = run(capsys, "list", "--variant", "mixer_s32")
    assert status == 0
    assert "mixer_b16" not in out


def test_list_marks_what_users_must_know_and_says_it_below(server, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    _, out, _ = run(capsys, "list")
    marked = re.findall(r"(mixer_\w+) *│ *(\w+)\*", out)
    assert marked == [(entry.variant, entry.name) for entry in weights.available() if entry.note]
    below = [line for line in out.splitlines() if line.startswith("* ")]
    assert [line.split(":")[0] for line in below] == [
        "* gsam",
        "* imagenet1k_timm",
        "* imagenet21k_miil, imagenet1k_miil",
    ]
    assert all(note in out for note in {entry.note for entry in weights.available()})
    _, out, _ = run(capsys, "list", "--variant", "mixer_nano")
    assert "*" not in out


@pytest.mark.parametrize(
    "arguments",
    [
        ("weights", "save", "mixer_b16", "imagenet21k_miil", "{folder}"),
        ("evaluate", "mixer_b16", "--weights", "imagenet21k_miil"),
    ],
)
def test_classes_without_names_are_refused_before_anything_is_fetched(server, capsys, tmp_path, arguments):
    with pytest.raises(SystemExit) as exit_:
        main([argument.format(folder=tmp_path / "out") for argument in arguments])
    assert exit_.value.code == 2
    assert "this one has 11,221" in capsys.readouterr().err
    assert server.requests == []
    assert not (tmp_path / "out").exists()


def test_a_saved_set_replaces_itself_and_no_other_model(capsys, tmp_path):
    command = ("save", "mixer_nano", "cifar10", str(tmp_path))
    assert run(capsys, *command)[0] == run(capsys, *command)[0] == 0
    before = (tmp_path / "model.keras").read_bytes()
    (tmp_path / "model.json").write_text((tmp_path / "model.json").read_text().replace("mixer_nano-cifar10", "flowers"))
    status, _, err = run(capsys, *command)
    assert status == 2
    assert "model.keras, model.json of another model" in err
    assert (tmp_path / "model.keras").read_bytes() == before


def test_download_fetches_into_the_cache(server, content, capsys, tmp_path):
    server.files[PATH] = content
    status, out, err = run(capsys, "download", "mixer_s32", "gsam", "--json")
    assert status == 0
    assert "Reported broken" in err
    (row,) = json.loads(out)
    assert row == {
        "variant": "mixer_s32",
        "set": "gsam",
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "path": str(tmp_path / "keras_mixer" / "mixer_s32-gsam.npz"),
    }
    status, out, _ = run(capsys, "list", "--variant", "mixer_s32", "--json")
    assert json.loads(out)[0]["cached"] is True


def test_verify_reads_what_is_in_the_cache(server, content, capsys, tmp_path):
    status, out, _ = run(capsys, "verify", "mixer_s32")
    assert status == 0
    assert "Nothing is in the cache" in out
    server.files[PATH] = content
    run(capsys, "download", "mixer_s32", "gsam")
    status, out, _ = run(capsys, "verify", "--json")
    assert status == 0
    assert [(row["variant"], row["set"], row["status"], row["values"]) for row in json.loads(out)] == [
        ("mixer_nano", "cifar10", "ok", 1_132_170),  # in the package
        ("mixer_s32", "gsam", "ok", 3_000),
    ]

    path = tmp_path / "keras_mixer" / "mixer_s32-gsam.npz"
    path.write_bytes(content[:-1])
    status, out, err = run(capsys, "verify", "--json")
    assert status == 2
    assert [row["status"] for row in json.loads(out)] == ["ok", "failed"]
    assert "has changed since it was fetched" in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"head/kernel": np.ones((2, 5), "f4")}, "5 classes instead of 1000"),
        ({"head/kernel": np.full((2, 1000), np.nan, "f4")}, "not finite"),
        ({"head/kernel": np.full((2, 1000), "x")}, "not that of weights"),
        ({}, "None classes"),
    ],
)
def test_verify_tells_a_sound_transfer_of_unsound_weights(server, capsys, tmp_path, arrays, message):
    np.savez(tmp_path / "unsound.npz", **arrays)
    server.files[PATH] = (tmp_path / "unsound.npz").read_bytes()
    assert run(capsys, "download", "mixer_s32", "gsam")[0] == 0
    status, _, err = run(capsys, "verify", "mixer_s32", "gsam")
    assert status == 2
    assert message in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["download", "mixer_s32", "imagenet21k"], "Published sets: gsam"),
        (["download", "mixer_s32"], "SET"),
        (["download", "mixer_s32", "gsam"], "404"),
        (["verify", "mixer_s32", "gsam"], "is not there"),
        (["verify", "mixer_x1"], "mixer_x1"),
        (["list", "--variant", "mixer_x1"], "mixer_b16"),
    ],
)
def test_bad_input_is_one_line_and_status_2(server, capsys, arguments, message):
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert message in err
    assert "Traceback" not in err


def test_without_a_network_one_line_says_so(monkeypatch, capsys, caplog, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_MIXER_WEIGHTS_BASE_URL", "http://127.0.0.1:9")  # a port that answers to nobody
    status, _, err = run(capsys, "download", "mixer_s32", "gsam")
    assert status == 2
    (line,) = err.splitlines()
    assert "or set KERAS_MIXER_WEIGHTS_BASE_URL to a mirror" in line
    assert caplog.messages == []  # nor of the retries
