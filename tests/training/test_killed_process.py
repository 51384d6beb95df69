"""One of two processes of the JAX backend is killed: the other ends with one line, and the same command resumes."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from keras_mixer.training.loop.checkpoints import CheckpointStore

COMMAND = [sys.executable, "-m", "keras_mixer", "train", "--recipe", "digits", "--json"]
ENVIRONMENT = {
    **os.environ,
    "KERAS_BACKEND": "jax",
    "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}
LONG = {
    "model.num_blocks": "1",
    "model.hidden_dim": "8",
    "model.tokens_mlp_dim": "4",
    "model.channels_mlp_dim": "8",
    "model.image_size": "[8, 8]",
    "schedule.epochs": "null",
    "schedule.steps": "100000",
    "schedule.warmup_steps": "1",
    "data.train_split": "train[:320]",
    "eval_steps": "100000",
    "execution.checkpoint_steps": "20",
}
LINE = "Process {} of 2 has ended, so process {} ends too. Run the same command again"


@pytest.fixture
def started():
    """Starts two processes, whose standard error can be read when they have ended."""
    processes: list[subprocess.Popen] = []

    def start(folder, changes):
        with socket.create_server(("localhost", 0)) as server:
            address = f"localhost:{server.getsockname()[1]}"
        settings = [f"--set={name}={value}" for name, value in changes.items()]
        for index in range(2):
            place = ["--coordinator", address, "--processes", "2", "--process", str(index)]
            processes.append(
                subprocess.Popen(
                    [*COMMAND, "--output", str(folder), *place, *settings],
                    env=ENVIRONMENT,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        return processes[-2:]

    yield start
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.communicate()


@pytest.mark.parametrize("killed", [1, 0])
def test_the_other_ends_and_the_same_command_resumes(started, tmp_path, killed):
    folder = tmp_path / "run"
    store = CheckpointStore(folder / "checkpoints")
    processes = started(folder, LONG)
    await_step(store, 20, processes)
    processes[killed].send_signal(signal.SIGKILL)
    other = processes[1 - killed]
    _, printed = other.communicate(timeout=30)
    assert other.returncode == 1
    assert printed.splitlines()[-1].startswith(LINE.format(killed, 1 - killed))
    if killed == 0:
        return  # the folder is like that of the other case
    reached = store.steps()[-1]
    processes = started(folder, LONG)
    await_step(store, reached + 1, processes)
    processes[1].send_signal(signal.SIGINT)
    for process in processes:
        _, printed = process.communicate(timeout=60)
        assert process.returncode == 130, printed
        assert printed.splitlines()[-1] == "Interrupted."


def await_step(store: CheckpointStore, step: int, processes: list[subprocess.Popen]) -> None:
    deadline = time.monotonic() + 600
    while max(store.steps(), default=0) < step:
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes)
        time.sleep(0.1)


def test_bad_places_are_one_line(tmp_path):
    command = [*COMMAND, "--output", str(tmp_path / "run"), "--processes", "2"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "JAX_PROCESS_ID is missing" in done.stderr
