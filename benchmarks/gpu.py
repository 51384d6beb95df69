"""One script for a GPU that is at hand for minutes: speed beside timm and Flax, and a long training of Mixer-Nano.

    python benchmarks/gpu.py pack cifar10_jpeg.npz build/gpu       # here: wheels, training images and this repository
    python3 build/gpu/repository/benchmarks/gpu.py run build/gpu --output results --minutes 12.5       # there

The machine needs Python 3.12, jax, torch, timm and flax, but neither network nor TensorFlow nor Keras: those wheels are
in the folder. Each part runs in a process of its own and ends in time. `results` has at most eight files.

The Nano learns at a constant rate until its time is nearly over, and cools down for `--cooldown` updates, so that its
length is what the machine allows. With `--teacher-minutes`, a ConvMixer is trained first and teaches it.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import zipfile

LIMIT = 64 * 2**20  # bytes of the folder
LARGEST_RESULT = 16 * 2**20
# What the package needs beside JAX, PyTorch, timm and Flax, which bring NumPy, SciPy, Pillow and safetensors.
WHEELS = (
    *("keras", "absl-py", "h5py", "namex", "optree", "packaging", "rich", "pygments", "markdown-it-py", "mdurl"),
    *("click", "lazy_loader", "requests", "urllib3", "idna", "certifi", "charset-normalizer", "wrapt"),
    "fsspec",
)
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
# Left out of the folder, because neither part reads it.
UNPACKED = ("notebooks", "docs", "tests", "keras_mixer/export/bundle")
STARTING = 60.0  # seconds that reading the images and compiling may take in each call
RESERVE = 15.0  # seconds to write the results
FOUND = "found.json"  # what the training writes at its end


def pack(archive: pathlib.Path, folder: pathlib.Path) -> None:
    """Writes wheels, the training split of the archive and the tracked files of this repository to the folder."""
    import numpy as np

    folder.mkdir(parents=True)
    options = ["--no-deps", "--only-binary=:all:", "--python-version=3.12", "--dest", str(folder / "wheels")]
    options += [f"--platform={name}" for name in PLATFORMS]
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", *options, *WHEELS], check=True)
    with np.load(archive) as arrays:
        names = [name for name in arrays.files if not name.startswith("test_")]
        np.savez(folder / "images.npz", **{name: arrays[name] for name in names})
    root = pathlib.Path(__file__).parents[1]
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if not name.startswith(UNPACKED) and (root / name).is_file():
            target = folder / "repository" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, target)
    sizes = {part.name: _size(part) for part in folder.iterdir()}
    print(", ".join(f"{name} {size / 2**20:.1f} MiB" for name, size in sizes.items()))
    if sum(sizes.values()) > LIMIT:
        raise SystemExit(f"{folder} has {sum(sizes.values()) / 2**20:.1f} MiB, more than {LIMIT / 2**20:.0f}.")


def _size(path: pathlib.Path) -> int:
    return path.stat().st_size if path.is_file() else sum(_size(entry) for entry in path.iterdir())


def run(options: argparse.Namespace) -> None:
    """Runs both parts as processes, each with its time, and collects the results."""
    end = time.monotonic() + 60 * options.minutes - RESERVE
    output = options.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    work = options.work.resolve()
    installed = work / "installed"
    for wheel in sorted((options.folder / "wheels").glob("*.whl")):
        with zipfile.ZipFile(wheel) as file:
            file.extractall(installed)
    root = pathlib.Path(__file__).resolve().parents[1]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(root), str(installed)]),
        "KERAS_BACKEND": "jax",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # timm's processes need memory too
    }
    report: dict = {"parts": {}}
    training = 60 * options.training_minutes
    parts = {
        "training": ([__file__, "train", str(options.folder.resolve()), str(work), *_passed_on(options)], training),
        "speed": (["-m", "benchmarks.speed", options.plan, "--output", str(output / "speed_gpu.md")], None),
    }
    with open(output / "log.txt", "w", encoding="utf-8") as log:
        for name, (command, seconds) in parts.items():
            left = end - time.monotonic()
            seconds = left if seconds is None else min(seconds, left)
            timed = ["--seconds", f"{max(seconds - RESERVE, 1):.0f}"]
            started = time.monotonic()
            status = _within(seconds, [sys.executable, *command, *timed], environment, root, log)
            report["parts"][name] = {"status": status, "seconds": round(time.monotonic() - started, 1)}
            _collect(work, output)
            (output / "results.json").write_text(json.dumps(report | _found(work), indent=2) + "\n", encoding="utf-8")
    print((output / "results.json").read_text(encoding="utf-8"))


def _passed_on(options: argparse.Namespace) -> list[str]:
    names = ("cooldown", "teacher-minutes", "teacher-cooldown", "images")
    given = {name: getattr(options, name.replace("-", "_")) for name in names}
    changes = [f"--set={text}" for text in options.set] + [f"--teacher-set={text}" for text in options.teacher_set]
    return [f"--{name}={value}" for name, value in given.items()] + changes


def _within(seconds: float, command: list[str], environment: dict, root: pathlib.Path, log) -> int | str:
    """Runs a command; interrupts it, and then ends it, if it takes longer. Returns its status."""
    log.write(f"\n$ {' '.join(command)}\n")
    log.flush()
    process = subprocess.Popen(command, env=environment, cwd=root, stdout=log, stderr=subprocess.STDOUT)
    for signal in (process.terminate, process.kill):
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(max(seconds, 1))
        signal()
        seconds = RESERVE
    process.wait()
    return "out of time"


def _collect(work: pathlib.Path, output: pathlib.Path) -> None:
    """Copies the results of the Nano, as far as it came, and its last checkpoint if it did not come to the end."""
    run = work / "nano"
    unfinished = not (work / FOUND).exists()
    model = () if unfinished else ("model.keras", "model.json")  # else of before the cooldown
    for name in (*model, "recipe.json", "history.csv"):
        if (run / name).exists():
            shutil.copy(run / name, output / name)
    checkpoints = sorted((run / "checkpoints").glob("*.safetensors"))
    if unfinished and checkpoints and checkpoints[-1].stat().st_size <= LARGEST_RESULT:
        shutil.copy(checkpoints[-1], output / "checkpoint.safetensors")


def _found(work: pathlib.Path) -> dict:
    found = work / FOUND
    return json.loads(found.read_text(encoding="utf-8")) if found.exists() else {}


def train(options: argparse.Namespace) -> None:
    """Trains the teacher, if there is one, and the Nano, in the seconds that there are."""
    end = time.monotonic() + options.seconds
    from keras_mixer.training import recipes

    images = options.work / "images"
    if not images.exists():
        _unpack(options.folder / "images.npz", images, options.images)
    common = {
        "data.name": str(images),
        "data.train_split": "train",
        "data.eval_split": "validation",
        "data.test_split": "null",
        "batch_size": "256",
        "eval_steps": "1870",  # ten passes; the host reads the images of each evaluation
        "schedule.decay": "constant",
        "execution.pipeline": "device",
        "execution.precision": "mixed_bfloat16",
        "execution.checkpoint_minutes": "1",
    }

    def recipe(name: str, cooldown: int, changes: list[str], **more: str):
        given = common | {"schedule.cooldown_steps": str(cooldown)} | more
        return recipes.get(name).override(given | dict(text.split("=", 1) for text in changes))

    found, taught = {}, {}
    if options.teacher_minutes:
        teacher, until = options.work / "teacher", time.monotonic() + 60 * options.teacher_minutes
        by = recipe("cifar10_teacher", options.teacher_cooldown, options.teacher_set)
        found["teacher"] = _train_until(by, teacher, until)
        taught["distillation.teacher"] = str(teacher)
    nano = recipe("cifar10_nano", options.cooldown, options.set, **taught)
    found["nano"] = _train_until(nano, options.work / "nano", end)
    (options.work / FOUND).write_text(json.dumps(found, indent=2), encoding="utf-8")


def _unpack(archive: pathlib.Path, folder: pathlib.Path, count: int | None) -> None:
    """Writes the images as files, the last 2,000 (a tenth of fewer) as the split `validation`."""
    import numpy as np

    with np.load(archive) as arrays:
        content, offsets, labels = (arrays[f"train_{part}"] for part in ("bytes", "offsets", "labels"))
        names = arrays["class_names"]
    labels = labels[:count]
    held_out = len(labels) - min(2000, len(labels) // 10)
    for index, label in enumerate(labels):
        path = folder / ("train" if index < held_out else "validation") / str(names[label]) / f"{index:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content[offsets[index] : offsets[index + 1]].tobytes())


def _train_until(recipe, folder: pathlib.Path, end: float) -> dict:
    """Trains at a constant rate until little more than the cooldown fits, and then cools down."""
    import dataclasses

    import keras

    from keras_mixer.training import train as train_by

    class StopForCooldown(keras.callbacks.Callback):
        """Ends the constant rate when the seconds left are those of the cooldown."""

        steps, first, started = 0, 0, 0.0

        def on_train_batch_end(self, batch, logs=None):
            type(self).steps += self.model.steps_per_execution
            now = time.monotonic()
            if not self.first:
                if self.steps >= 10:  # compiled
                    type(self).first, type(self).started = self.steps, now
                return
            step = (now - self.started) / (self.steps - self.first)
            if self.steps < recipe.schedule.warmup_steps:
                return
            if now + recipe.schedule.cooldown_steps * step * 1.2 + STARTING > end:
                self.model.stop_training = True

    long = dataclasses.replace(recipe, schedule=dataclasses.replace(recipe.schedule, epochs=100_000.0, steps=None))
    result = train_by(long, folder, callbacks=[StopForCooldown()])
    total = result.steps + recipe.schedule.cooldown_steps
    whole = dataclasses.replace(recipe, schedule=dataclasses.replace(recipe.schedule, epochs=None, steps=total))
    result = train_by(whole, folder)
    return {
        "accuracy on the held-out images": result.accuracy,
        "steps": result.steps,
        "epochs": result.history[-1]["epoch"],
        "seconds": round(result.seconds, 1),
        "images/s": round(result.steps * recipe.batch_size / result.seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="Make the folder for the other machine.")
    packing.add_argument("archive", type=pathlib.Path, help="The images, as benchmarks/unpack_jpegs.py describes them.")
    packing.add_argument("folder", type=pathlib.Path)
    running = commands.add_parser("run", help="Run all of it there.")
    running.add_argument("folder", type=pathlib.Path)
    running.add_argument("--output", type=pathlib.Path, default=pathlib.Path("results"))
    running.add_argument(
        "--work", type=pathlib.Path, default=pathlib.Path("gpu_work"), help="Folder of what does not come back."
    )
    running.add_argument("--minutes", type=float, default=12.5, help="Minutes for both parts together.")
    running.add_argument("--training-minutes", type=float, default=7.0)
    running.add_argument("--plan", default="gpu", help="Plan of benchmarks.speed: gpu, or gpu_smoke to rehearse.")
    training = commands.add_parser("train", help="What `run` starts.")
    training.add_argument("folder", type=pathlib.Path)
    training.add_argument("work", type=pathlib.Path)
    training.add_argument("--seconds", type=float, required=True)
    for command in (running, training):
        command.add_argument("--cooldown", type=int, default=7500, help="Updates of the cooldown.")
        command.add_argument("--teacher-minutes", type=float, default=0.0)
        command.add_argument("--teacher-cooldown", type=int, default=500, help="Updates of the teacher's cooldown.")
        command.add_argument("--images", type=int, default=50_000, help="Training images, with those held out.")
        for option, whose in {"--set": "the Nano", "--teacher-set": "the teacher"}.items():
            command.add_argument(
                option, action="append", default=[], metavar="FIELD=VALUE", help=f"A field of {whose}'s recipe."
            )
    options = parser.parse_args()
    if options.command == "pack":
        pack(options.archive, options.folder)
    elif options.command == "run":
        run(options)
    else:
        train(options)


if __name__ == "__main__":
    main()
