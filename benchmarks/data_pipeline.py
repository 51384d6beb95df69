"""Images per second of the training pipeline's parts, beside the RandAugment of Keras and of keras-cv.

    python benchmarks/data_pipeline.py [--output benchmarks/data_pipeline.md]

Random-looking photographs do not compress like real ones, so the JPEGs are made of smooth noise at ImageNet's mean
size, 500 x 375 px, about 50 KB each. keras-cv 0.9.0 is measured where it is installed (`pip install
keras-cv==0.9.0`), or by another interpreter that has it (`--keras-cv-python`).
"""

import argparse
import datetime
import importlib.util
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

GOAL = 0.9  # of the rate of the parts that nobody can leave out
SIZE, BATCH, LAYERS, MAGNITUDE = 224, 64, 2, 15
CASES = {
    "ours": "RandAugment, keras_mixer",
    "keras": "RandAugment, keras {keras}",
    "keras_cv": "RandAugment, keras-cv {keras_cv}",
    "crop": "JPEG decode-and-crop alone",
    "crop_randaugment": "decode-and-crop and RandAugment",
    "pipeline": "whole pipeline: those, shuffle, flip, mixup, scale",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, help="write the Markdown table here as well")
    here = sys.executable if importlib.util.find_spec("keras_cv") else None
    parser.add_argument("--keras-cv-python", default=here, help="interpreter that has keras-cv; left out without")
    parser.add_argument("--batches", type=int, default=40, help="batches per repetition")
    parser.add_argument("--repetitions", type=int, default=5, help="repetitions; the cases alternate")
    parser.add_argument("--only", choices=CASES, help="measure one case and print JSON")
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(measure(arguments.only, arguments.batches)))
        return
    cases = [case for case in CASES if case != "keras_cv" or arguments.keras_cv_python]
    rates: dict[str, list[float]] = {case: [] for case in cases}
    versions: dict[str, str] = {}
    for _ in range(arguments.repetitions):
        for case in cases:  # alternating, so that a slow spell of the machine does not fall on one case alone
            python = arguments.keras_cv_python if case == "keras_cv" else sys.executable
            command = [python, __file__, "--only", case, "--batches", str(arguments.batches)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            result = json.loads(done.stdout.strip().splitlines()[-1])
            rates[case].append(result["rate"])
            versions |= result["versions"]
            print(f"{case}: {result['rate']:.0f} images/s", file=sys.stderr)
    table = report(rates, versions, arguments)
    print(table)
    if arguments.output:
        arguments.output.write_text(table, encoding="utf-8")


def measure(case: str, batches: int) -> dict:
    """Images per second of one case, after a warm-up of five batches."""
    import keras
    import numpy as np
    import tensorflow as tf

    versions = {"tensorflow": tf.__version__, "keras": keras.__version__}
    rng = np.random.default_rng(0)
    # Upright and lying: a folder of one size would be decoded once and kept.
    photographs = [photograph(rng, *((375, 500), (500, 375))[index % 2]) for index in range(BATCH)]
    if case in ("ours", "keras", "keras_cv"):
        images = tf.constant(np.stack([image[:SIZE, :SIZE] for image in photographs]))
        if case == "ours":
            dataset = ours(images)
        elif case == "keras":
            # Its magnitude ends at 1, which stands for the level 10.
            layer = keras.layers.RandAugment(value_range=(0, 255), num_ops=LAYERS, factor=1.0, seed=0)
            dataset = whole_batches(images, lambda batch: layer(batch, training=True))
        else:
            import keras_cv

            versions["keras_cv"] = keras_cv.__version__
            layer = keras_cv.layers.RandAugment((0, 255), augmentations_per_image=LAYERS, magnitude=1.0, rate=1.0)
            dataset = whole_batches(images, lambda batch: layer(batch, training=True))
    else:
        dataset = jpeg_pipeline(case, [tf.io.encode_jpeg(image, quality=90).numpy() for image in photographs])
    iterator = iter(dataset)
    for _ in range(5):
        next(iterator)
    start = time.perf_counter()
    for _ in range(batches):
        next(iterator)
    return {"rate": batches * BATCH / (time.perf_counter() - start), "versions": versions}


def ours(images):
    import tensorflow as tf

    from keras_mixer.data.augmentation.randaugment import DRAWS_PER_LAYER, randaugment

    def augment(index):
        draws = tf.random.stateless_uniform((LAYERS, DRAWS_PER_LAYER), tf.stack([0, index]))
        return tf.cast(randaugment(images[index % BATCH], draws, MAGNITUDE), tf.float32)

    augment = tf.autograph.experimental.do_not_convert(augment)
    return tf.data.Dataset.range(2**62).map(augment, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH).prefetch(2)


def whole_batches(images, layer):
    import tensorflow as tf

    batches = tf.data.Dataset.from_tensors(tf.cast(images, tf.float32)).repeat()
    return batches.map(layer, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)


def jpeg_pipeline(case: str, encoded: list[bytes]):
    import dataclasses
    import tempfile

    import tensorflow as tf

    from keras_mixer import data

    folder = pathlib.Path(tempfile.mkdtemp(prefix="data_pipeline-")) / "train"
    for index, content in enumerate(encoded):
        path = folder / str(index % 10) / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    preprocessing = data.Preprocessing(image_size=SIZE)
    crop = data.Augmentation(flip=False)
    both = dataclasses.replace(crop, randaugment_layers=LAYERS, randaugment_magnitude=MAGNITUDE)
    if case == "pipeline":
        source = data.load(str(folder.parent))
        return data.training_batches(
            source, preprocessing, dataclasses.replace(both, flip=True, mixup=0.5), BATCH, seed=0
        )
    augmentation = crop if case == "crop" else both
    contents = tf.constant(encoded)

    def augment(index):
        return augmentation.augment(contents[index % BATCH], preprocessing, tf.stack([0, index]))

    augment = tf.autograph.experimental.do_not_convert(augment)
    return tf.data.Dataset.range(2**62).map(augment, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH).prefetch(2)


def photograph(rng, height: int, width: int):
    """Smooth noise with some grain, uint8 `(height, width, 3)`: a JPEG of it is about as large as of a photograph."""
    import numpy as np
    import tensorflow as tf

    coarse = tf.image.resize(rng.uniform(0, 255, (12, 16, 3)), (height, width), method="bicubic").numpy()
    return np.clip(coarse + rng.normal(0, 6, (height, width, 3)), 0, 255).astype(np.uint8)


def report(rates: dict[str, list[float]], versions: dict[str, str], arguments) -> str:
    """The Markdown table with what it was measured on."""
    median = {case: statistics.median(values) for case, values in rates.items()}
    lines = [
        "# Throughput of the data pipeline",
        "",
        f"Batches of {BATCH} at {SIZE} px, {LAYERS} layers of RandAugment (ours at magnitude {MAGNITUDE}, the others "
        f"at their greatest); median, least and greatest of {arguments.repetitions} runs of "
        f"{arguments.batches} batches.",
        "",
        "| case | images/s | least | greatest |",
        "|---|---|---|---|",
    ]
    for case, values in rates.items():
        name = CASES[case].format(**versions)
        lines.append(f"| {name} | {median[case]:.0f} | {min(values):.0f} | {max(values):.0f} |")
    parts = 1 / (1 / median["crop"] + 1 / median["ours"])  # one after the other
    share = median["pipeline"] / parts
    lines += [
        "",
        f"Decode-and-crop and then RandAugment, each as measured alone, would make {parts:.0f} images/s; the whole "
        f"pipeline runs at {share:.0%} of that. The goal is {GOAL:.0%}: {'reached' if share >= GOAL else 'missed'}.",
        "",
        f"{datetime.date.today().isoformat()}, {os.cpu_count()} cores ({processor()}), Python "
        f"{platform.python_version()}, "
        + ", ".join(f"{name.replace('_', '-')} {version}" for name, version in versions.items())
        + f". Command: `python benchmarks/data_pipeline.py --batches {arguments.batches} "
        f"--repetitions {arguments.repetitions}`.",
        "",
    ]
    return "\n".join(lines)


def processor() -> str:
    """The processor's name where the system tells it."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
