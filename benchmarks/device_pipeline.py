"""Images per second of the two training pipelines on images of 32 px: tf.data on the host, and JAX inside the step.

    KERAS_BACKEND=jax python -m benchmarks.device_pipeline [--output benchmarks/device_pipeline.md]

Both shuffle, crop with padding, flip, apply RandAugment (2 operations) and mixup, and scale, with no model behind them.
On a CPU both use the same cores. On an accelerator the device pipeline leaves the host idle.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import datetime
import pathlib
import platform
import statistics
import tempfile
import time

import click
import jax
import numpy as np
from PIL import Image

from benchmarks.speed.table import machine
from keras_mixer import data
from keras_mixer.data import device
from keras_mixer.data.corrupt import CorruptImages

CLASSES, SIZE = 10, 32
AUGMENTATION = data.Augmentation(crop="pad", flip=True, randaugment_layers=2, randaugment_magnitude=15, mixup=0.5)
PREPROCESSING = data.Preprocessing(image_size=(SIZE, SIZE), resize="direct")


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--images", default=5_000, show_default=True, help="Images of the dataset.")
@click.option("--batch-size", default=256, show_default=True)
@click.option("--batches", default=40, show_default=True, help="Batches of a repetition.")
@click.option("--repetitions", default=5, show_default=True, help="Repetitions; the pipelines alternate.")
@click.option("--output", type=click.Path(path_type=pathlib.Path), help="Also write the table to this file.")
def main(images, batch_size, batches, repetitions, output):
    with tempfile.TemporaryDirectory() as folder:
        write_images(pathlib.Path(folder), images)
        source = data.load(folder, split="train")
        pipelines = {"host (tf.data)": host(source, batch_size), "device (JAX)": on_device(source, batch_size)}
        rates: dict[str, list[float]] = {name: [] for name in pipelines}
        for _ in range(repetitions):
            for name, start in pipelines.items():
                rates[name].append(batch_size / seconds_per_batch(start(), batches))
    text = report(rates, images, batch_size)
    print(text)
    if output:
        output.write_text(text, encoding="utf-8")


def write_images(folder: pathlib.Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / "train" / str(number % CLASSES) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(path, compress_level=1)


def seconds_per_batch(stream, count: int) -> float:
    """Times batches after the first five, in which the pipeline is compiled and begins to read ahead."""
    for _ in range(5):
        next(stream)
    start = time.perf_counter()
    for _ in range(count):
        next(stream)
    return (time.perf_counter() - start) / count


def host(source, batch_size):
    dataset = data.training_batches(source, PREPROCESSING, AUGMENTATION, batch_size, seed=0)
    return lambda: (jax.block_until_ready([jax.device_put(part.numpy()) for part in batch]) for batch in dataset)


def on_device(source, batch_size):
    corrupt = CorruptImages()
    in_memory = device.load_into_memory(source, PREPROCESSING, AUGMENTATION, corrupt)
    stream = device.DeviceStream(source, PREPROCESSING, AUGMENTATION, batch_size, 0, corrupt, in_memory)
    arrays, finish = jax.device_put(in_memory), jax.jit(stream.finish)
    return lambda: (jax.block_until_ready(finish(batch, arrays)) for batch, *_ in stream.batches(0))


def report(rates: dict[str, list[float]], images: int, batch_size: int) -> str:
    medians = {name: statistics.median(values) for name, values in rates.items()}
    lines = [
        "# The host's and the device's training pipeline",
        "",
        f"{images:,} images of {SIZE} px in memory, batches of {batch_size}: shuffle, padded crop, flip, RandAugment",
        "of 2 operations, mixup and scaling, without a model. Written by `python -m benchmarks.device_pipeline`.",
        "",
        "| pipeline | images/s, median | least | most |",
        "|---|---:|---:|---:|",
        *(
            f"| {name} | {medians[name]:,.0f} | {min(values):,.0f} | {max(values):,.0f} |"
            for name, values in rates.items()
        ),
        "",
        f"{datetime.date.today()}, {machine()}, JAX on {jax.devices()[0].platform}, Python "
        f"{platform.python_version()}, jax {jax.__version__}.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
