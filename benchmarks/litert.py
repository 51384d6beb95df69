"""Speed of LiteRT files by precision and batch size, timed in turn in one process: a busy machine slows all alike.

    python benchmarks/litert.py --variant mixer_b16 --batch 1 8 --output benchmarks/litert.md

Weights are random: speed does not depend on them. Accuracy is the business of `keras-mixer export`, on trained models.
"""

import argparse
import dataclasses
import datetime
import itertools
import os
import pathlib
import platform
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="mixer_b16", help="a name in keras_mixer.models.VARIANTS")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--batch", type=int, nargs="+", default=[1], help="images per call; the first is compared with")
    parser.add_argument("--repetitions", type=int, default=30, help="timed calls of each file")
    parser.add_argument("--output", type=pathlib.Path, help="write the Markdown table here as well")
    table = measure(parser.parse_args())
    print(table)


def measure(arguments: argparse.Namespace) -> str:
    import numpy as np

    import keras_mixer
    from keras_mixer.artefacts.litert import PRECISIONS
    from keras_mixer.evaluation import open_artefact
    from keras_mixer.export import export_litert

    variant = keras_mixer.models.VARIANTS[arguments.variant]
    shape = (arguments.image_size, arguments.image_size, 3)
    model = keras_mixer.Mixer(**dataclasses.asdict(dataclasses.replace(variant, input_shape=shape)))
    images = np.random.default_rng(0).uniform(-1, 1, (max(arguments.batch), *shape)).astype(np.float32)

    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for precision, batch in itertools.product(PRECISIONS, arguments.batch):
            path = pathlib.Path(folder) / f"{precision}_{batch}.tflite"
            export_litert(model, path, precision=precision, samples=[images], batch_size=batch)
            files[precision, batch] = open_artefact(path, threads=arguments.threads)
        times: dict[tuple[str, int], list[float]] = {key: [] for key in files}  # seconds per image
        for repetition in range(arguments.repetitions + 2):
            for (precision, batch), predictor in files.items():
                start = time.perf_counter()
                predictor.scores(images[:batch])
                if repetition >= 2:  # the first calls warm up
                    times[precision, batch].append((time.perf_counter() - start) / batch)
        table = _table(arguments, times, {key: predictor.size for key, predictor in files.items()})
    if arguments.output:
        arguments.output.write_text(table + "\n", encoding="utf-8")
    return table


def _table(arguments: argparse.Namespace, times: dict[tuple[str, int], list[float]], sizes: dict) -> str:
    import importlib.metadata

    import numpy as np

    version = importlib.metadata.version("ai-edge-litert")
    lines = [
        "# Speed of LiteRT files",
        "",
        f"LiteRT {version}, {arguments.variant} at {arguments.image_size} px, {arguments.threads} threads, "
        f"{_processor()}, {datetime.date.today().isoformat()}. Median of {arguments.repetitions} calls, all files in "
        "turn; the spread is from the 10th to the 90th percentile; the ratio is the median of the ratios of "
        f"neighbouring calls to float32 with {arguments.batch[0]} per call.",
        "",
        "| precision | images per call | MB | ms per image | spread | images/s | times float32 |",
        "|---|---:|---:|---:|---|---:|---:|",
    ]
    reference = np.array(times["float32", arguments.batch[0]])
    for (precision, batch), values in times.items():
        low, median, high = np.percentile(values, [10, 50, 90]) * 1e3
        ratio = np.median(reference / np.array(values))
        lines.append(
            f"| {precision} | {batch} | {(sizes[precision, batch] or 0) / 1e6:.1f} | {median:.1f} | "
            f"{low:.1f} to {high:.1f} | {1e3 / median:.1f} | {ratio:.2f} |"
        )
    return "\n".join(lines)


def _processor() -> str:
    information = pathlib.Path("/proc/cpuinfo")
    names = [line.partition(":")[2] for line in information.read_text().splitlines() if line.startswith("model name")]
    return f"{names[0].strip() if names else platform.machine()} ({os.cpu_count()} cores)"


if __name__ == "__main__":
    main()
