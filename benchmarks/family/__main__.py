"""Mixer beside its siblings: cost, speed and a small training, and how cost grows with the image.

    python -m benchmarks.family --cifar10 cifar10_jpeg.npz

Writes family.md and family.png beside this package. Every measurement runs in a process of its own.
"""

import datetime
import json
import os
import pathlib
import subprocess
import sys

import click

from benchmarks.family.rows import ROWS
from benchmarks.speed.table import machine

GROWTH = {"CycleMLP-B1": "cycle_mlp_b1", "Mixer-S/16": "mixer_s16"}
SIDES = (128, 192, 256, 384)
HEADER = (
    "| model | parameters | MAdds, G | CPU, images/s | LiteRT, images/s | peak memory, MB | "
    "CIFAR-10 (small model) | reported ImageNet top-1 |"
)


@click.command(help=__doc__)
@click.option("--cifar10", type=click.Path(exists=True, dir_okay=False), help="Archive of JPEGs; left out without it.")
@click.option("--epochs", default=5, help="Epochs of the training on CIFAR-10.")
@click.option("--limit", type=int, help="Images of each split of CIFAR-10, for a quick look.")
@click.option("--repetitions", default=5, help="Timed calls.")
@click.option("--sides", multiple=True, type=int, default=SIDES, help="Image sides of the growth.")
@click.option("--only", multiple=True, help="Variants to measure; all without it.")
@click.option("--output", type=click.Path(path_type=pathlib.Path), default=pathlib.Path("benchmarks/family.md"))
def main(cifar10, epochs, limit, repetitions, sides, only, output):
    rows = [row for row in ROWS if not only or row.variant in only]
    if not rows:
        raise click.BadParameter(f"--only takes of {', '.join(row.variant for row in ROWS)}.")
    lines = [
        "# Mixer and its siblings",
        "",
        f"Made by `{_command(cifar10, epochs, limit)}` on {datetime.date.today()}: {machine()}.",
        "224 px and 1,000 classes, random weights, float32; CPU at batch 8 in graph mode, LiteRT one image at a time",
        "on all cores. Peak memory: what building the model and predicting at batch 8 added to the process.",
        "",
        HEADER,
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        *[_line(row, cifar10, epochs, limit, repetitions) for row in rows],
        "",
        f"CIFAR-10: models of about 0.6 million parameters at 32 px, {epochs} epochs, seed 0, nothing tuned; see",
        "`benchmarks/family/cifar10.py`. Accuracy after so short a training ranks how fast they learn, not how far.",
        "",
        "## Growth with the image",
        "",
        *_growth_lines(sides, repetitions, output.with_suffix(".png")),
        "## CycleFC and its naive forms",
        "",
        *_cycle_fc_lines(),
    ]
    output.write_text("\n".join(lines) + "\n")
    click.echo(output.read_text())


def _command(cifar10, epochs, limit) -> str:
    """The command that was given, with file names in place of this machine's paths."""
    parts = ["python -m benchmarks.family"]
    if cifar10:
        parts.append(f"--cifar10 {pathlib.Path(cifar10).name} --epochs {epochs}")
    return " ".join(parts + ([f"--limit {limit}"] if limit else []))


def _line(row, cifar10, epochs, limit, repetitions) -> str:
    speed = _measured("speed", row.variant, "--repetitions", repetitions)
    accuracy = ""
    if cifar10:
        extra = ("--limit", limit) if limit else ()
        trained = _measured("cifar10", row.variant, "--archive", cifar10, "--epochs", epochs, *extra)
        millions, seconds = trained["small_parameters"] / 1e6, trained["training_seconds"]
        accuracy = f"{trained['accuracy']:.1%} ({millions:.2f} M, {seconds:.0f} s)"
    return (
        f"| {row.title} | {speed['parameters']:,} | {speed['multiply_adds'] / 1e9:.2f} "
        f"| {speed['images_per_second']:.1f} | {speed['litert_images_per_second']:.1f} "
        f"| {speed['peak_bytes'] / 1e6:,.0f} | {accuracy} | {row.reported_top1:.1f} % |"
    )


def _growth_lines(sides, repetitions, picture: pathlib.Path) -> list[str]:
    from keras_mixer.evaluation import growth_exponent

    measured = {
        title: {side: _measured("growth", variant, "--side", side, "--repetitions", repetitions) for side in sides}
        for title, variant in GROWTH.items()
    }
    _draw(measured, picture)
    lines = ["| model | image | MAdds, G | ms per image |", "|---|---:|---:|---:|"]
    for title, by_side in measured.items():
        for side, cost in by_side.items():
            lines.append(f"| {title} | {side} | {cost['multiply_adds'] / 1e9:.2f} | {1e3 * cost['seconds']:,.1f} |")
    for title, by_side in measured.items():
        pixels = [side * side for side in by_side]
        by_time, by_operations = (
            growth_exponent(pixels, [cost[kind] for cost in by_side.values()]) for kind in ("seconds", "multiply_adds")
        )
        lines += ["", f"{title}: time grows as pixels to the power {by_time:.2f}, MAdds to {by_operations:.2f}."]
    return [*lines, "", f"![Time per image against its pixels]({picture.name})", ""]


def _draw(measured: dict, picture: pathlib.Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8, 3.5), layout="constrained")
    for title, by_side in measured.items():
        pixels = [side * side for side in by_side]
        axes[0].loglog(pixels, [1e3 * cost["seconds"] for cost in by_side.values()], "o-", label=title)
        axes[1].loglog(pixels, [cost["multiply_adds"] / 1e9 for cost in by_side.values()], "o-", label=title)
        for axis, kind, unit in ((axes[0], "seconds", 1e3), (axes[1], "multiply_adds", 1e-9)):
            first = next(iter(by_side.values()))[kind] * unit
            axis.loglog(pixels, [first * count / pixels[0] for count in pixels], ":", color="grey", linewidth=1)
    axes[0].set(xlabel="pixels of the image", ylabel="ms per image")
    axes[1].set(xlabel="pixels of the image", ylabel="MAdds, G")
    axes[1].legend(title="dotted: linear")
    figure.savefig(picture, dpi=120)


def _cycle_fc_lines() -> list[str]:
    lines = ["Milliseconds for 8 feature maps, medians over alternating rounds.", ""]
    lines += ["| backend | map | CycleFC | sparse convolution | value by value |", "|---|---|---:|---:|---:|"]
    for backend in ("tensorflow", "jax", "torch"):
        results = _json([sys.executable, "-m", "benchmarks.family.cycle_fc"], {"KERAS_BACKEND": backend})
        for shape, times in results.items():
            lines.append(f"| {backend} | {shape} | " + " | ".join(f"{time:.2f}" for time in times.values()) + " |")
    return lines


def _measured(kind: str, *arguments) -> dict:
    return _json([sys.executable, "-m", "benchmarks.family.measure", kind, *map(str, arguments)], {})


def _json(command: list[str], environment: dict[str, str]) -> dict:
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, **environment})
    return json.loads(result.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
