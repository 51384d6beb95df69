"""How a Mixer's cost grows, what memory training takes, and how long starting takes; writes benchmarks/costs.md.

python -m benchmarks.costs
"""

import datetime
import functools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click

from benchmarks.speed.table import machine

# The widths of S/16; token mixing keeps its D_S whatever the number of patches (section 2 of the paper).
SMALL = {"patch_size": 16, "hidden_dim": 512, "tokens_mlp_dim": 256, "channels_mlp_dim": 2048}
IMAGE_SIDES = (112, 160, 224, 320, 448)
BATCH_SIZES = (1, 2, 4, 8, 16, 32)
DEPTHS = (2, 4, 8, 16)
TRAINING_BATCHES = (4, 8, 16, 32)
REPETITIONS = 9

TRAINING_PEAK = """
import json, pathlib, re, sys
import keras, numpy as np
import keras_mixer
from keras_mixer.training import recipes, training_model
from keras_mixer.training.devices.distribution import choose
def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
keras.config.set_dtype_policy(sys.argv[1])
model = keras_mixer.MixerS16(weights=None, classifier_activation=None)
before = peak()
if sys.argv[3] == "fit":
    model.compile("adamw", keras.losses.CategoricalCrossentropy(from_logits=True), jit_compile=False)
else:
    recipe = recipes.get("imagenet_b16").override({"execution.steps_per_execution": "1"})
    model = training_model(model, recipe, 2 * recipe.schedule.warmup_steps, choose("default"))
batch = int(sys.argv[2])
images, targets = np.zeros((2 * batch, 224, 224, 3), "float32"), np.eye(1000, dtype="float32")[: 2 * batch]
model.fit(images, targets, batch_size=batch, verbose=0)
print(json.dumps([before, peak()]))
"""

START_UPS = {
    "`import keras_mixer`": [sys.executable, "-c", "import keras_mixer"],
    "`import keras_mixer` and Keras with TensorFlow": [
        sys.executable,
        "-c",
        "import keras_mixer; keras_mixer.MixerB16",
    ],
    "`keras-mixer --help`": [str(pathlib.Path(sys.executable).with_name("keras-mixer")), "--help"],
    "first prediction of S/16, from process start": [
        sys.executable,
        "-c",
        "import numpy as np, keras_mixer as k; k.MixerS16(weights=None).predict(np.zeros((1, 224, 224, 3)), verbose=0)",
    ],
    "H/14 built, from process start": [sys.executable, "-c", "import keras_mixer as k; k.MixerH14(weights=None)"],
}


def small_mixer(num_blocks: int = 8, side: int = 224):
    import keras_mixer

    return keras_mixer.Mixer(num_blocks=num_blocks, input_shape=(side, side, 3), **SMALL)


def images_per_second(jobs: dict) -> dict:
    """The rate of each job, a model and a batch size: medians over calls in graph mode.

    The jobs take turns, so that a slow minute of the machine does not look like growth.
    """
    import numpy as np
    import tensorflow as tf

    rng = np.random.default_rng(0)
    calls, times = {}, {name: [] for name in jobs}
    for name, (model, batch) in jobs.items():
        forward = tf.function(functools.partial(model, training=False), autograph=False)
        images = tf.constant(rng.normal(size=(batch, *model.input_shape[1:])).astype("float32"))
        calls[name] = functools.partial(forward, images)
        calls[name]()
    for _ in range(REPETITIONS):
        for name, call in calls.items():
            call().numpy()  # untimed: it finds the caches as the job before left them
            start = time.perf_counter()
            call().numpy()
            times[name].append(time.perf_counter() - start)
    return {name: batch / statistics.median(times[name]) for name, (_, batch) in jobs.items()}


def growth_lines() -> list[str]:
    """Images per second against patches, batch and depth, with the exponents of the cost."""
    from keras_mixer.evaluation.throughput import growth_exponent

    lines = []
    by_patches = images_per_second({(side // 16) ** 2: (small_mixer(side=side), 8) for side in IMAGE_SIDES})
    exponent = growth_exponent(list(by_patches), [1 / rate for rate in by_patches.values()])
    lines += _series("patches", by_patches, f"Time per image grows as patches to the power {exponent:.2f}.")
    draw(by_patches, exponent)
    model = small_mixer()
    lines += _series("batch", images_per_second({batch: (model, batch) for batch in BATCH_SIZES}), "")
    by_depth = images_per_second({depth: (small_mixer(num_blocks=depth), 8) for depth in DEPTHS})
    exponent = growth_exponent(list(by_depth), [1 / rate for rate in by_depth.values()])
    lines += _series("blocks", by_depth, f"Time per image grows as blocks to the power {exponent:.2f}.")
    return lines


def draw(by_patches: dict[int, float], exponent: float) -> None:
    """Writes costs.png: milliseconds per image against the number of patches."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    axes.loglog(list(by_patches), [1e3 / rate for rate in by_patches.values()], "o-", base=2)
    axes.set(xlabel="patches", ylabel="ms per image", title=f"S/16 widths, fixed D_S: exponent {exponent:.2f}")
    axes.grid(alpha=0.3)
    figure.savefig(pathlib.Path(__file__).with_name("costs.png"), dpi=120)


def memory_lines() -> list[str]:
    """Peak memory of a training step of S/16, each in a process of its own."""
    peaks: dict[str, dict[int, int]] = {}
    for step, title in (("fit", "Keras's own `fit`"), ("train", "`keras-mixer train`")):
        for policy in ("float32", "mixed_bfloat16"):
            for batch in TRAINING_BATCHES:
                command = [sys.executable, "-c", TRAINING_PEAK, policy, str(batch), step]
                output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                before, peak = json.loads(output.splitlines()[-1])
                peaks.setdefault(f"{title}, {policy}", {})[batch] = peak - before
    return memory_table(peaks)


def memory_table(peaks: dict[str, dict[int, int]]) -> list[str]:
    """A table of bytes beyond the model, by step and batch: what an image adds, and what is needed in any case.

    Gradients and the optimizer's moments are there for a batch of any size, so an image costs what the next batch adds.
    """
    lines = ["| step | batch | peak beyond the model, MB | for each image more, MB |", "|---|---:|---:|---:|"]
    fixed = []
    for step, of_batch in peaks.items():
        smaller = None
        for batch, peak in of_batch.items():
            more = "" if smaller is None else f"{(peak - of_batch[smaller]) / (batch - smaller) / 1e6:,.0f}"
            lines.append(f"| {step} | {batch} | {peak / 1e6:,.0f} | {more} |")
            smaller = batch
        line = statistics.linear_regression(list(of_batch), list(of_batch.values()))
        fixed.append(f"{line.intercept / 1e6:,.0f} MB ({step})")
    what = "Whatever the batch (gradients, moments, the runtime): the line through the peaks starts at"
    return [*lines, "", f"{what} {', '.join(fixed)}.", ""]


def start_up_lines() -> list[str]:
    """Wall-clock medians of whole processes."""
    lines = ["| what | seconds |", "|---|---:|"]
    for name, command in START_UPS.items():
        times = []
        for _ in range(3):
            start = time.perf_counter()
            subprocess.run(command, capture_output=True, check=True)
            times.append(time.perf_counter() - start)
        lines.append(f"| {name} | {statistics.median(times):.2f} |")
    return [*lines, ""]


def _series(axis: str, rates: dict[int, float], conclusion: str) -> list[str]:
    rows = [f"| {size} | {rate:,.1f} | {1e3 / rate:,.1f} |" for size, rate in rates.items()]
    return [
        f"| {axis} | images/s | ms per image |",
        "|---:|---:|---:|",
        *rows,
        "",
        *([conclusion, ""] if conclusion else []),
    ]


@click.command(help=__doc__)
@click.option("--output", type=click.Path(path_type=pathlib.Path), default=pathlib.Path(__file__).with_name("costs.md"))
def main(output):
    lines = [
        "# Cost of a Mixer",
        "",
        f"Made by `python -m benchmarks.costs` on {datetime.date.today()}: {machine()}. Medians.",
        "",
        "## Growth (S/16 widths, float32; batch 8, 8 blocks, 224 px unless said)",
        "",
        *growth_lines(),
        "![Time per image against patches](costs.png)",
        "",
        "## Memory of a training step (S/16, AdamW)",
        "",
        *memory_lines(),
        "## Starting",
        "",
        *start_up_lines(),
    ]
    output.write_text("\n".join(lines))
    click.echo(output.read_text())


if __name__ == "__main__":
    main()
