"""Measurements of one model, each in a process of its own: prints one line of JSON.

python -m benchmarks.family.measure speed cycle_mlp_b2 --batch 8 --repetitions 5
python -m benchmarks.family.measure growth cycle_mlp_b1 --side 256
python -m benchmarks.family.measure cifar10 cycle_mlp_b2 --archive cifar10_jpeg.npz --epochs 5
"""

import json
import math
import os
import pathlib
import re
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click


@click.group(help=__doc__.splitlines()[0])
def main():
    pass


@main.command(help="Parameters, multiply-adds, CPU and LiteRT throughput, and peak memory.")
@click.argument("variant")
@click.option("--batch", default=8)
@click.option("--repetitions", default=5)
def speed(variant, batch, repetitions):
    import numpy as np

    from keras_mixer import models
    from keras_mixer.evaluation import measure_latency, measure_throughput, open_artefact
    from keras_mixer.export import export_litert

    before = _peak()
    model = models.build(variant, input_shape=(224, 224, 3))
    rate = measure_throughput(model, [batch], repetitions=repetitions).best
    memory = _peak() - before
    with tempfile.TemporaryDirectory() as folder:
        path = export_litert(model, pathlib.Path(folder) / "model.tflite")
        predictor = open_artefact(path, threads=os.cpu_count())
        image = np.random.default_rng(0).uniform(-1, 1, (1, 224, 224, 3)).astype("float32")
        lite = measure_latency({"litert": predictor}, image, repetitions=repetitions)["litert"].images_per_second
    _answer(
        parameters=sum(math.prod(weight.shape) for weight in model.trainable_weights),
        multiply_adds=models.multiply_adds(model),
        images_per_second=rate,
        litert_images_per_second=lite,
        peak_bytes=memory,
    )


@main.command(help="Time per image and multiply-adds at one image size.")
@click.argument("variant")
@click.option("--side", default=224)
@click.option("--batch", default=8)
@click.option("--repetitions", default=5)
def growth(variant, side, batch, repetitions):
    from keras_mixer import models
    from keras_mixer.evaluation import measure_throughput

    model = models.build(variant, input_shape=(side, side, 3))
    rate = measure_throughput(model, [batch], repetitions=repetitions).best
    _answer(seconds=1 / rate, multiply_adds=models.multiply_adds(model))


@main.command(help="Accuracy on CIFAR-10 after a small training that is the same for all.")
@click.argument("variant")
@click.option("--archive", type=click.Path(exists=True, dir_okay=False), required=True)
@click.option("--epochs", default=5)
@click.option("--limit", type=int, help="Images of each split, for a quick look.")
def cifar10(variant, archive, epochs, limit):
    from benchmarks.family.cifar10 import trained_accuracy
    from benchmarks.family.rows import BY_VARIANT

    _answer(**trained_accuracy(BY_VARIANT[variant], archive, epochs, limit))


def _peak() -> int:
    """Bytes of the largest resident memory of this process so far."""
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path("/proc/self/status").read_text())[1])


def _answer(**values):
    print(json.dumps(values))


if __name__ == "__main__":
    main()
