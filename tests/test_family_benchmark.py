"""The benchmark of the family keeps what it measured; how fast or how good anything is, no test says."""

import datetime
import json
import subprocess

import pytest
from click.testing import CliRunner

from benchmarks.family import results
from benchmarks.family.__main__ import main
from benchmarks.family.rows import ROWS

SPEED = {
    "parameters": 1_234_567,
    "multiply_adds": 2_120_000_000,
    "images_per_second": 12.3,
    "litert_images_per_second": 45.6,
    "peak_bytes": 789e6,
}


@pytest.fixture
def commands(monkeypatch):
    """The measuring commands, answered at once; the second training is interrupted."""
    given = []

    def answer(command, **_):
        given.append(command[3:])
        if "cifar10" in command and len(given) == 2:
            raise KeyboardInterrupt
        output = {"accuracy": 0.5, "small_parameters": 600_000} if "cifar10" in command else SPEED
        return subprocess.CompletedProcess(command, 0, stdout=f"epoch 1\n{json.dumps(output)}\n")

    monkeypatch.setattr(results.subprocess, "run", answer)
    return given


def run(folder, *arguments):
    options = ["--work", str(folder / "work"), "--output", str(folder / "family.md"), *arguments]
    return CliRunner().invoke(main, options)


def test_an_interrupted_measurement_goes_on_where_it_stopped(tmp_path, commands):
    (tmp_path / "archive.npz").touch()
    training = ("--cifar10", str(tmp_path / "archive.npz"), "--part", "cifar10", "--epochs", "3")
    assert run(tmp_path, *training).exit_code != 0
    assert not (tmp_path / "family.md").exists()
    assert run(tmp_path, *training).exit_code == 0
    variants = [row.variant for row in ROWS]
    assert [command[1] for command in commands] == [*variants[:2], *variants[1:]]
    assert commands[0][2:] == ["--epochs", "3", "--archive", str(tmp_path / "archive.npz")]
    table = (tmp_path / "family.md").read_text()
    assert table.count("50.0% (0.60 M)") == len(ROWS)
    assert "| gMLP-S | not measured |" in table


def test_results_of_other_settings_are_not_taken(tmp_path, commands):
    only = ("--part", "speed", "--only", "g_mlp_s")
    for repetitions in ("5", "5", "7"):
        assert run(tmp_path, *only, "--repetitions", repetitions).exit_code == 0
    assert [command[-1] for command in commands] == ["5", "7"]
    assert f"measured on {datetime.date.today()}, " in (tmp_path / "family.md").read_text()
    assert (
        "| gMLP-S | 1,234,567 | 2.12 | 12.3 | 45.6 | 789 | not measured | 79.6 % |"
        in (tmp_path / "family.md").read_text()
    )
