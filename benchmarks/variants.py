"""The variants of the paper's appendix A on CIFAR-10, one small Mixer each, with the same budget.

    python -m benchmarks.variants cifar10_jpeg.npz [--epochs 10] [--output benchmarks/variants.md]

The archive's layout is that of `benchmarks/unpack_jpegs.py`; the training is that of `benchmarks/family/cifar10.py`:
nothing is tuned for any variant.
"""

import argparse
import dataclasses
import datetime
import os
import pathlib

from benchmarks.speed.table import machine

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

BASE = dict(num_blocks=4, patch_size=4, hidden_dim=64, tokens_mlp_dim=64, channels_mlp_dim=256)  # 64 tokens
VARIANTS = {
    "base": {},
    "untied": dict(untied=True),
    "concat, G = 2": dict(channel_groups=2),
    "concat, G = 4": dict(channel_groups=4),
    "project, G = 2": dict(channel_groups=2, grouping="project"),
    "project, G = 4": dict(channel_groups=4, grouping="project"),
    "pyramid, 64 to 16 tokens at block 2": dict(tokens=(64, 64, 16, 16)),
}


@dataclasses.dataclass(frozen=True)
class Variant:
    """What `trained_accuracy` asks of an architecture: a builder of `keras_mixer.models` and its arguments."""

    small: dict
    builder: str = "Mixer"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=pathlib.Path)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--limit", type=int, help="first images of each split alone, for a trial")
    parser.add_argument("--only", choices=VARIANTS, nargs="*", default=list(VARIANTS), metavar="NAME")
    parser.add_argument("--output", type=pathlib.Path, help="write the Markdown table here as well")
    arguments = parser.parse_args()
    command = f"python -m benchmarks.variants ARCHIVE --epochs {arguments.epochs}"
    command += f" --limit {arguments.limit}" if arguments.limit else ""
    lines = heading(arguments.epochs, f"Made by `{command}` on {datetime.date.today()}: {machine()}.")
    for name in arguments.only:
        lines.append(row(name, arguments.archive, arguments.epochs, arguments.limit))
        print(lines[-1], flush=True)
    table = "\n".join(lines) + "\n"
    print("\n" + table)
    if arguments.output:
        arguments.output.write_text(table, encoding="utf-8")


def heading(epochs: int, made: str) -> list[str]:
    """The lines above the rows."""
    return [
        f"# Variants of the appendix on CIFAR-10, {epochs} epochs",
        "",
        made,
        "",
        "| variant | parameters | multiply-adds per image | test accuracy |",
        "| --- | ---: | ---: | ---: |",
    ]


def row(name: str, archive: pathlib.Path, epochs: int, limit: int | None) -> str:
    import keras

    from benchmarks.family.cifar10 import trained_accuracy
    from keras_mixer import models

    small = {**BASE, **VARIANTS[name]}
    cost = models.multiply_adds(models.Mixer(**small, input_shape=(32, 32, 3), classes=10))
    found = trained_accuracy(Variant(small), archive, epochs, limit)
    keras.backend.clear_session()
    return f"| {name} | {found['small_parameters']:,} | {cost:,} | {100 * found['accuracy']:.2f} % |"


if __name__ == "__main__":
    main()
