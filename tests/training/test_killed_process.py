"""A process of several on JAX is killed or fails: the others end with one line, and each with a status of its own."""

import contextlib
import os
import re
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
    "batch_size": "48",  # of up to six devices
    "execution.checkpoint_steps": "20",
}
# Trains until a callback raises an error in the processes that the first argument lists.
FAILING = """
import os, sys
import keras
from keras_mixer import training

class Fails(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 5 and os.environ["JAX_PROCESS_ID"] in sys.argv[1]:
            raise ValueError("mine")

recipe = training.recipes.get("digits").override(dict(text.split("=", 1) for text in sys.argv[3:]))
try:
    training.train(recipe, sys.argv[2], callbacks=[Fails()])
except ValueError as error:
    sys.exit(7 if str(error) == "mine" else 8)
"""
# The reader hears half a second too late that process 1 is gone: process 0 has failed or aborts for the same reason.
LATE = """
import os, socket, sys, time
from keras_mixer.training.devices import processes

received = processes._received
processes._received = lambda *arguments: time.sleep(0.5) or received(*arguments)
watch = processes._Watch(0, 2)
link, other = socket.socketpair()
watch.read({1: link})
other.close()
os.abort() if sys.argv[1] == "aborts" else watch.leave(processes._FAILED)
sys.exit(7)
"""
SETTINGS = [f"{name}={value}" for name, value in LONG.items()]
LINE = "Process {} of 2 has ended, so process {} ends too. Run the same command again"


@pytest.fixture
def started():
    """Starts processes, whose standard error can be read when they have ended."""
    processes: list[subprocess.Popen] = []

    def start(command, count=2):
        with socket.create_server(("localhost", 0)) as server:
            address = f"localhost:{server.getsockname()[1]}"
        for index in range(count):
            place = {
                "JAX_COORDINATOR_ADDRESS": address,
                "JAX_NUM_PROCESSES": str(count),
                "JAX_PROCESS_ID": str(index),
            }
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            processes.append(subprocess.Popen(command, env=ENVIRONMENT | place, **pipes))
        return processes[-count:]

    yield start
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.communicate()


@pytest.mark.parametrize("killed", [1, 0])
def test_the_other_ends_and_the_same_command_resumes(started, tmp_path, killed):
    folder = tmp_path / "run"
    store = CheckpointStore(folder / "checkpoints")
    command = [*COMMAND, "--output", str(folder), *(f"--set={setting}" for setting in SETTINGS)]
    processes = started(command)
    await_step(store, 20, processes)
    processes[killed].send_signal(signal.SIGKILL)
    other = processes[1 - killed]
    output, printed = other.communicate(timeout=30)
    assert (other.returncode, output) == (1, "")  # what Gloo prints would spoil the JSON
    assert printed.splitlines()[-1].startswith(LINE.format(killed, 1 - killed))
    if killed == 0:
        return  # the folder is like that of the other case
    reached = store.steps()[-1]
    processes = started(command)
    await_step(store, reached + 1, processes)
    processes[1].send_signal(signal.SIGINT)
    for process in processes:
        _, printed = process.communicate(timeout=60)
        assert process.returncode == 130, printed
        assert printed.splitlines()[-1] == "Interrupted."


@pytest.mark.parametrize(("count", "failing"), [(2, [1]), (2, [0]), (3, [0, 1])])
def test_processes_that_fail_alone_end_with_a_status_of_their_own(started, tmp_path, count, failing):
    names = "".join(map(str, failing))
    processes = started([sys.executable, "-c", FAILING, names, str(tmp_path / "run"), *SETTINGS], count)
    printed = [process.communicate(timeout=600)[1] for process in processes]
    assert [process.returncode for process in processes] == [7 if i in failing else 1 for i in range(count)], printed
    for index in set(range(count)) - set(failing):
        assert re.search(rf"Process [{names}] of {count} has failed, so process {index} ends too", printed[index])


@pytest.mark.parametrize("how", ["fails", "aborts"])
def test_a_process_that_ends_because_another_is_gone_says_so(started, how):
    [process] = started([sys.executable, "-c", LATE, how], 1)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 1
    assert printed.splitlines()[-1].startswith(LINE.format(1, 0))


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
