"""Load on the embedded server: throughput and latency, what batching gains, memory, and version switches.

    python benchmarks/serving.py                       # about 15 minutes; writes benchmarks/serving.md
    python benchmarks/serving.py --minutes 0.2 --seconds 2 --output -

The server runs as `keras-mixer serve` in one process, the load in another, both on this machine's processors.
The models are Mixers with random weights, exported by this package: `digits` has the sizes of the recipe of that name
(32 px, 0.1 million parameters), `small` has S/32's depth and width at 64 px, with token MLPs in proportion to its 4
tokens (18 million parameters). Requests are REST calls of `serving_bytes` with one JPEG of the model's size each.
Memory and version switches are measured on `small`; for memory, REST, the Open Inference Protocol
(`/v2`) and the front page take turns.
"""

import base64
import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import click

LOAD = Path(__file__).with_name("serving_load.py")
CLIENTS = (1, 8, 32)
MODELS = {
    "digits": {
        "num_blocks": 4,
        "patch_size": 4,
        "hidden_dim": 64,
        "tokens_mlp_dim": 32,
        "channels_mlp_dim": 128,
        "input_shape": (32, 32, 3),
        "classes": 10,
    },
    "small": {
        "num_blocks": 8,
        "patch_size": 32,
        "hidden_dim": 512,
        "tokens_mlp_dim": 32,
        "channels_mlp_dim": 2048,
        "input_shape": (64, 64, 3),
        "classes": 1000,
    },
}
SETTINGS = {"batched": [], "unbatched": ["--no-batching"]}


def export_model(name: str, folder: Path) -> tuple[Path, Path]:
    """Writes a model and a request for it: the base path and the file of the request's body."""
    import tensorflow as tf

    import keras_mixer
    from keras_mixer.data import ModelCard, Preprocessing
    from keras_mixer.export import export_saved_model

    settings = MODELS[name]
    height, width, channels = settings["input_shape"]
    preprocessing = Preprocessing(image_size=(height, width), resize="direct")
    card = ModelCard(name, tuple(map(str, range(settings["classes"]))), preprocessing)
    export_saved_model(keras_mixer.Mixer(**settings), folder / name, card)
    pixels = tf.random.stateless_uniform((height, width, channels), (1, 2), 0, 256, tf.int32)
    data = tf.io.encode_jpeg(tf.cast(pixels, tf.uint8)).numpy()
    instance = {"b64": base64.b64encode(data).decode()}
    body_file = folder / f"{name}.json"
    body_file.write_text(json.dumps({"signature_name": "serving_bytes", "instances": [instance]}))
    return folder / name, body_file


@contextlib.contextmanager
def server(base_path: Path, *options: str):
    """A server process, and its address."""
    command = [sys.executable, "-u", "-m", "keras_mixer", "serve", str(base_path), "--rest-port", "0", "--no-grpc"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        if not line.startswith("REST"):
            raise click.ClickException("The server did not start.")
        yield process, line.split()[1]
    finally:
        process.terminate()
        process.communicate(timeout=60)


def start_load(address: str, body_file: Path, clients: int, seconds: float, *more: str) -> subprocess.Popen:
    """Starts the load on one address; `more` are further pairs of a path and a body's file."""
    host, _, rest = address.removeprefix("http://").partition(":")
    port, _, path = rest.partition("/")
    arguments = [host, port, str(clients), str(seconds), "/" + path, str(body_file), *more]
    return subprocess.Popen([sys.executable, str(LOAD), *arguments], stdout=subprocess.PIPE, text=True)


def finish_load(process: subprocess.Popen) -> dict:
    output, _ = process.communicate()
    return json.loads(output)


def resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def throughput(model: str, base_path: Path, body_file: Path, seconds: float) -> list[dict]:
    rows = []
    for name, options in SETTINGS.items():
        with server(base_path, *options) as (_, address):
            finish_load(start_load(address, body_file, 8, min(3.0, seconds)))
            for clients in CLIENTS:
                row = finish_load(start_load(address, body_file, clients, seconds))
                rows.append({"model": model, "setting": name, **row})
                click.echo(
                    f"{model:8} {name:10} {clients:3} clients {row['requests_per_second']:8.1f} requests/s", err=True
                )
    return rows


def memory(base_path: Path, body_file: Path, minutes: float) -> dict:
    with server(base_path) as (process, address):
        finish_load(start_load(address, body_file, 8, min(30.0, minutes * 6)))  # caches and thread arenas fill first
        (instance,) = json.loads(body_file.read_text())["instances"]
        tensor = {"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": [instance["b64"]]}
        tensor["parameters"] = {"content_type": "base64"}
        open_inference = body_file.with_suffix(".v2.json")
        open_inference.write_text(json.dumps({"inputs": [tensor]}))
        more = [f"/v2/models/{base_path.name}/infer", str(open_inference), "/", "-"]
        load = start_load(address, body_file, 8, minutes * 60, *more)
        samples = [resident_mib(process.pid)]
        while load.poll() is None:
            time.sleep(min(5.0, minutes * 6))
            samples.append(resident_mib(process.pid))
        result = finish_load(load)
    return {**result, "start_mib": samples[0], "peak_mib": max(samples), "end_mib": samples[-1]}


def version_switch(base_path: Path, body_file: Path, seconds: float) -> dict:
    with server(base_path) as (_, address):
        load = start_load(address, body_file, 32, seconds)
        number = 1
        while load.poll() is None:
            number += 1
            partial = base_path / f".{number}.partial"
            shutil.copytree(base_path / "1", partial)
            partial.rename(base_path / str(number))
            while number not in available_versions(address) and load.poll() is None:
                time.sleep(0.2)
            time.sleep(seconds / 10)
        result = finish_load(load)
        switches = max(available_versions(address)) - 1
    for extra in range(2, number + 1):
        shutil.rmtree(base_path / str(extra))
    return {**result, "switches": switches}


def available_versions(address: str) -> list[int]:
    with urllib.request.urlopen(address.removesuffix(":predict")) as response:
        versions = json.load(response)["model_version_status"]
    return [int(row["version"]) for row in versions if row["state"] == "AVAILABLE"]


def report(rows: list[dict], switched: dict, grown: dict | None, minutes: float) -> str:
    import importlib.metadata

    def versions(*names: str) -> str:
        return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)

    tensorflow = next(d for d in ("tensorflow-cpu", "tensorflow") if _installed(d))
    rate = {(row["model"], row["setting"], row["clients"]): row["requests_per_second"] for row in rows}
    gains = [
        f"{rate[model, 'batched', CLIENTS[-1]] / rate[model, 'unbatched', CLIENTS[-1]]:.1f} times on `{model}`"
        for model in MODELS
    ]
    lines = [
        "# The embedded server under load",
        "",
        __doc__.split("\n\n")[-1].strip().replace("\n", " "),
        "",
        f"- Date: {datetime.now(UTC):%Y-%m-%d}. Command: `python benchmarks/serving.py`.",
        f"- Machine: {_processor()}, {os.cpu_count()} processors, {platform.system()}; server and load share it.",
        f"- Versions: Python {platform.python_version()}, {versions(tensorflow, 'aiohttp', 'orjson', 'numpy')}.",
        "",
        "| model | setting | clients | requests/s | p50 ms | p99 ms | errors |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        lines.append(
            f"| {row['model']} | {row['setting']} | {row['clients']} | {row['requests_per_second']:.0f} "
            f"| {row['p50_ms']:.1f} | {row['p99_ms']:.1f} | {row['errors']} |"
        )
    lines += [
        "",
        f"At {CLIENTS[-1]} clients, batching gives {' and '.join(gains)} of the unbatched throughput.",
        "",
        f"{switched['switches']} version switches under {switched['clients']} clients: "
        f"{switched['requests']} requests, {switched['errors']} lost or refused; p99 {switched['p99_ms']:.0f} ms.",
    ]
    if grown is not None:
        lines += [
            "",
            f"{minutes:g} minutes of {grown['clients']} clients: {grown['requests']} requests, "
            f"{grown['errors']} errors{_first(grown)}.",
            f"Resident memory: {grown['start_mib']:.0f} MiB at the start, {grown['end_mib']:.0f} MiB at the end, "
            f"{grown['peak_mib']:.0f} MiB at most.",
        ]
    return "\n".join(lines) + "\n"


def _first(row: dict) -> str:
    return f" (the first: {row['first_error']})" if row["errors"] else ""


def _installed(name: str) -> bool:
    import importlib.metadata

    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _processor() -> str:
    with contextlib.suppress(OSError, IndexError):
        return Path("/proc/cpuinfo").read_text().split("model name")[1].split(":", 1)[1].split("\n")[0].strip()
    return platform.processor() or platform.machine()


@click.command()
@click.option("--seconds", default=15.0, show_default=True, help="Length of each throughput measurement.")
@click.option("--minutes", default=10.0, show_default=True, help="Length of the memory measurement; 0 leaves it out.")
@click.option("--output", default=str(Path(__file__).with_suffix(".md")), show_default=True, help="- prints it.")
def main(seconds: float, minutes: float, output: str):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for model in MODELS:
            base_path, body_file = export_model(model, Path(folder))
            rows += throughput(model, base_path, body_file, seconds)
        switched = version_switch(base_path, body_file, 2 * seconds)
        grown = memory(base_path, body_file, minutes) if minutes else None
    text = report(rows, switched, grown, minutes)
    if output == "-":
        click.echo(text)
    else:
        Path(output).write_text(text)


if __name__ == "__main__":
    main()
