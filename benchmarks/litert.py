"""Speed of LiteRT files in the four precisions, timed in turn in one process, so that a busy machine slows all alike.

    python benchmarks/litert.py --variant mixer_b16 --output benchmarks/litert.md

Weights are random: speed does not depend on them. Accuracy is the business of `keras-mixer export`, on trained models.
"""

import argparse
import dataclasses
import datetime
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
    images = np.random.default_rng(0).uniform(-1, 1, (8, *shape)).astype(np.float32)

    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for precision in PRECISIONS:
            path = pathlib.Path(folder) / f"{precision}.tflite"
            export_litert(model, path, precision=precision, samples=[images])
            files[precision] = open_artefact(path, threads=arguments.threads)
        times: dict[str, list[float]] = {precision: [] for precision in files}
        for repetition in range(arguments.repetitions + 2):
            for precision, predictor in files.items():
                start = time.perf_counter()
                predictor.scores(images[:1])
                if repetition >= 2:  # the first calls warm up
                    times[precision].append(time.perf_counter() - start)
        table = _table(arguments, times, {precision: predictor.size for precision, predictor in files.items()})
    if arguments.output:
        arguments.output.write_text(table + "\n", encoding="utf-8")
    return table


def _table(arguments: argparse.Namespace, times: dict[str, list[float]], sizes: dict[str, int | None]) -> str:
    import importlib.metadata

    import numpy as np

    version = importlib.metadata.version("ai-edge-litert")
    lines = [
        f"LiteRT {version}, {arguments.variant} at {arguments.image_size} px, batch 1, {arguments.threads} threads, "
        f"{_processor()}, {datetime.date.today().isoformat()}. Median of {arguments.repetitions} calls, all files in "
        "turn; the spread is from the 10th to the 90th percentile; the ratio is the median of the ratios of "
        "neighbouring calls.",
        "",
        "| precision | MB | ms | spread | images/s | times float32 |",
        "|---|---|---|---|---|---|",
    ]
    reference = np.array(times["float32"])
    for precision, values in times.items():
        low, median, high = np.percentile(values, [10, 50, 90]) * 1e3
        ratio = np.median(reference / np.array(values))
        lines.append(
            f"| {precision} | {(sizes[precision] or 0) / 1e6:.1f} | {median:.1f} | {low:.1f} to {high:.1f} | "
            f"{1e3 / median:.1f} | {ratio:.2f} |"
        )
    return "\n".join(lines)


def _processor() -> str:
    information = pathlib.Path("/proc/cpuinfo")
    names = [line.partition(":")[2] for line in information.read_text().splitlines() if line.startswith("model name")]
    return f"{names[0].strip() if names else platform.machine()} ({os.cpu_count()} cores)"


if __name__ == "__main__":
    main()
