"""Runs that lose a process midway: every image once, none lost."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import stalling
from PIL import Image

from keras_mixer.cli import main
from keras_mixer.prediction import ray_engine

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="needs Ray Data: pip install 'keras_mixer[ray]'"
)
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds the stalled process in /proc")


@pytest.fixture
def twenty_images(tmp_path):
    """Twenty images, two of them damaged."""
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(20):
        Image.new("RGB", (20, 20), (12 * index, 255 - 12 * index, 90)).save(folder / f"{index:02}.png")
    for name in ("03.png", "17.png"):
        (folder / name).write_bytes(b"not an image")
    return folder


@pytest.fixture(scope="module")
def cluster():
    """One cluster for all tests, started as the engine starts it."""
    import ray

    with ray_engine._connected(ray, None):
        yield


def arguments(run, images, last, output) -> list[str]:
    options = ["--output", output, "--part-size", 4, "--batch-size", 4, "--json"]
    return [str(argument) for argument in ("predict", "--model", run, images, last, *options)]


def summary(capsys, arguments) -> dict:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    output = capsys.readouterr()
    assert exit_.value.code == 0, output.err
    return json.loads(output.out)[0]


def check_every_image_once(output, images, last):
    rows = pq.read_table(output).to_pylist()
    assert sorted(row["path"] for row in rows) == sorted(str(path) for path in (*images.iterdir(), last))
    assert sorted(row["path"][-6:] for row in rows if row["error"]) == ["03.png", "17.png"]
    assert all(len(row["classes"]) == 5 for row in rows if not row["error"])


def replace_by_an_image(path):
    Image.new("RGB", (20, 20)).save(path.with_suffix(".new"), "PNG")
    path.with_suffix(".new").replace(path)


def test_a_killed_run_goes_on_where_it_was(run, twenty_images, tmp_path, capsys):
    last, output = stalling.stalling_image(tmp_path / "last.png"), tmp_path / "output"
    command = arguments(run, twenty_images, last, output)
    process = subprocess.Popen([sys.executable, "-m", "keras_mixer", *command], stderr=subprocess.DEVNULL)
    with stalling.reader_of(last) as reader:
        assert reader == process.pid
        stalling.wait(lambda: len(list(output.glob("part-*"))) == 5 or None)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    written = {part: part.stat().st_mtime_ns for part in output.glob("part-*")}
    replace_by_an_image(last)
    result = summary(capsys, command)
    assert sum(result.pop("classes").values()) == 19
    assert result | {"seconds": 0, "images/s": 0} == {
        "images": 21,
        "predicted now": 1,
        "rows in the output": 21,
        "of them unreadable": 2,
        "seconds": 0,
        "images/s": 0,
    }
    check_every_image_once(output, twenty_images, last)
    assert {part: part.stat().st_mtime_ns for part in written} == written
    assert len(list(output.glob("part-*"))) == 6


@needs_ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
def test_a_worker_of_two_killed_midway_loses_no_image(cluster, run, twenty_images, tmp_path, capsys):
    last, output = stalling.stalling_image(tmp_path / "last.png"), tmp_path / "output"
    killed = []

    def kill():
        with stalling.reader_of(last) as worker:
            replace_by_an_image(last)  # for the worker that takes its place
            os.kill(worker, signal.SIGKILL)
            killed.append(worker)

    killer = threading.Thread(target=kill)
    killer.start()
    options = ["--engine", "ray", "--workers", "2"]
    result = summary(capsys, [*arguments(run, twenty_images, last, output), *options])
    killer.join()
    assert killed
    assert killed[0] != os.getpid()
    assert (result["predicted now"], result["rows in the output"], result["of them unreadable"]) == (21, 21, 2)
    check_every_image_once(output, twenty_images, last)


@needs_ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
def test_an_error_of_a_worker_is_one_line_of_the_command(cluster, run, tmp_path, capfd):
    table = tmp_path / "images.parquet"
    pq.write_table(pa.table({"image": [b"x" * 1000] * 50}), table, compression="none", use_dictionary=False)
    content = table.read_bytes()
    table.write_bytes(content[:20] + b"\xff" * 60 + content[80:])  # what lists its rows, at the end, is whole
    command = ["predict", "--model", run, table, "--output", tmp_path / "output", "--engine", "ray", "--workers", "1"]
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in command])
    error = capfd.readouterr().err
    assert exit_.value.code == 2, error
    assert "Traceback" not in error
    assert error.splitlines()[-1].startswith(f"Error: {table} cannot be read as a parquet file: ")


@needs_ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
def test_images_that_kill_every_worker_end_the_run(cluster, run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ray_engine, "_RETRIES", 0)
    last = stalling.stalling_image(tmp_path / "last.png")

    def kill():
        with stalling.reader_of(last) as worker:
            os.kill(worker, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    command = ["predict", "--model", run, last, "--output", tmp_path / "output", "--engine", "ray", "--workers", "1"]
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in command])
    killer.join()
    assert exit_.value.code == 1
    assert "workers died again and again" in capsys.readouterr().err
