"""Program: what several devices and processes do, in children of one process, for most of their time goes into imports.

Usage: several_devices.py FOLDER PART..., with a recipe in FOLDER/recipe.json and, for the part `jax`, the backend and
four devices set by the caller. Each part leaves FOLDER/PART.npz with what it found and its runs in FOLDER; what a child
prints on standard error goes to FOLDER/PART.txt.
"""

import contextlib
import json
import os
import pathlib
import signal
import socket
import sys

import numpy as np
import plain_keras
from five_steps import draws, five_steps

ONE_PROCESS = ["one:default", "two:mirrored"]
IN_PARTS = ["parts:default:micro_batches=4"]
COMPILED = [
    "two_parts_together_compiled:mirrored:micro_batches=2:steps_per_execution=5:jit_compile=true",
]
FOUR = [
    "four:data_parallel",
    "four_parts_together:data_parallel:micro_batches=2:steps_per_execution=5",
    "unclipped:data_parallel:clip=1000",
]
PIPELINES = ("host", "device")


def main(folder: pathlib.Path, parts: list[str]) -> int:
    addresses = _free_addresses(2)
    cluster = {"chief": addresses[:1], "worker": addresses[1:]}
    children = []
    for part in parts:
        child = os.fork() if part != parts[-1] else 0  # the last part is this process's
        if child:
            children.append(child)
            continue
        with open(folder / f"{part}.txt", "wb") as file:
            os.dup2(file.fileno(), 2)
        if (task := part.removeprefix("plain_")) in cluster:
            os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": task, "index": 0}})
        if part in JAX_PROCESSES:
            place = (addresses[0], len(JAX_PROCESSES), JAX_PROCESSES.index(part))
            names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
            os.environ.update(zip(names, map(str, place), strict=True))
        np.savez(folder / f"{part}.npz", **PARTS[part](folder))
        if part != parts[-1]:
            return 0
    return max((abs(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])) for child in children), default=0)


def replicas(_folder: pathlib.Path) -> dict:
    """One process with two devices."""
    from keras_mixer.training.devices.distribution import choose

    _two_devices()
    found: dict = five_steps(ONE_PROCESS)
    found["draws"] = draws(choose("mirrored"))
    try:
        choose("tpu")  # the last, for connecting changes what devices a process sees
    except ValueError as error:
        found["tpu"] = str(error)
    return found


def further(folder: pathlib.Path) -> dict:
    """Batches in parts on one device, and a run on two."""
    _two_devices()
    return {**five_steps(IN_PARTS), "mirrored/run": _run(folder, "mirrored")}


def compiled(_folder: pathlib.Path) -> dict:
    """The same, compiled by XLA, several steps a call."""
    _two_devices()
    return five_steps(COMPILED)


def process(folder: pathlib.Path) -> dict:
    """A process of a cluster of a chief and a worker."""
    task = json.loads(os.environ["TF_CONFIG"])["task"]["type"]
    found: dict = five_steps([f"{task}:multi_worker"])
    found[f"{task}/run"] = _run(folder, "multi_worker")
    return found | _of_several(folder, task, "multi_worker", first=task == "chief")


def jax_process(folder: pathlib.Path) -> dict:
    """One of two processes of the JAX backend, each with two devices."""
    name = JAX_PROCESSES[int(os.environ["JAX_PROCESS_ID"])]
    found: dict = five_steps([f"{name}:data_parallel"])
    for pipeline in PIPELINES:
        found[f"{name}/{pipeline}"] = _run(folder, "auto", f"{pipeline}_processes", **{"execution.pipeline": pipeline})
    try:
        _run(folder, "auto", "diverged", **{"optimizer.learning_rate": "1e30", "schedule.warmup_steps": "0"})
    except RuntimeError as error:
        found[f"{name}/diverged"] = str(error)
    found |= _of_several(folder, name, "data_parallel", first=name == JAX_PROCESSES[0])
    _run(folder, "data_parallel", "data_parallel_interrupted")  # goes on to the end
    sys.modules["jax"].distributed.shutdown()  # at once, because one process waits for the other to exit
    return found


def _of_several(folder: pathlib.Path, name: str, strategy: str, first: bool) -> dict:
    """What a process finds that stops at an interruption of another one, resumes without its folder, and differs."""
    from keras_mixer.training.devices.distribution import choose

    distribution, found = choose("auto"), {}
    found[f"{name}/place"] = [distribution.workers, distribution.worker]
    run = f"{strategy}_interrupted"
    with contextlib.suppress(KeyboardInterrupt):
        _run(folder, strategy, run, [] if first else [_interrupt_at_step_three()])
        found[f"{name}/not interrupted"] = True
    # As on machines that share no storage: the second has nothing to go on from.
    try:
        _run(folder, strategy, run if first else "elsewhere")
    except ValueError as error:
        found[f"{name}/apart"] = str(error)
    try:
        _run(folder, strategy, "differing", **({} if first else {"seed": "5", "batch_size": "4"}))
    except ValueError as error:
        found[f"{name}/differing"] = str(error)
    return found


def jax(folder: pathlib.Path) -> dict:
    """Four devices of the JAX backend, and one; a run by the command line."""
    from keras_mixer.cli import main as command_line

    found: dict = five_steps(FOUR)
    for strategy, pipeline in (("default", "host"), ("default", "device"), ("data_parallel", "device")):
        _run(folder, strategy, f"{pipeline}_{strategy}", **{"execution.pipeline": pipeline})
    for pipeline, other in (PIPELINES, PIPELINES[::-1]):
        try:
            _run(folder, "default", f"{pipeline}_default", **{"execution.pipeline": other})
        except ValueError as error:
            found[f"refused/{other}"] = str(error)
    with contextlib.suppress(SystemExit):
        command_line(
            ["train", "--recipe", str(folder / "recipe.json"), "--output", str(folder / "data_parallel"), "--json"]
        )
    return found


def plain(_folder: pathlib.Path) -> dict:
    """Keras's own step on two devices."""
    from keras_mixer.training.devices.distribution import choose

    _two_devices()
    return plain_keras.on_two_devices(choose("mirrored").strategy)


def plain_process(_folder: pathlib.Path) -> dict:
    """Keras's own step in one of two processes."""
    from keras_mixer.training.devices.distribution import choose

    return {"fit": plain_keras.in_two_processes(choose("auto").strategy)}


JAX_PROCESSES = ("jax_first", "jax_second")
PARTS = {
    "replicas": replicas,
    "further": further,
    "compiled": compiled,
    "chief": process,
    "worker": process,
    "jax": jax,
    "jax_first": jax_process,
    "jax_second": jax_process,
    "plain": plain,
    "plain_chief": plain_process,
    "plain_worker": plain_process,
}


def _two_devices() -> None:
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


def _run(folder: pathlib.Path, strategy: str, name: str | None = None, callbacks=(), **changes: str) -> float:
    from keras_mixer.training import Recipe, train

    recipe = Recipe.from_json((folder / "recipe.json").read_text())
    recipe = recipe.override({"execution.strategy": strategy, **changes})
    return train(recipe, folder / (name or strategy), callbacks=callbacks).accuracy


def _interrupt_at_step_three():
    import keras

    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    return Interrupt()


def _free_addresses(count: int) -> list[str]:
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("localhost", 0))
        return [f"localhost:{listener.getsockname()[1]}" for listener in listeners]


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]), sys.argv[2:]))
