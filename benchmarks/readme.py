"""Copies recorded results into the README and the pages of docs/, so that no number there is typed.

python -m benchmarks.readme           # rewrites their sections
python -m benchmarks.readme --check   # exits 1 if they are not what the recorded results say
"""

import pathlib
import sys
from collections.abc import Callable

import click

ROOT = pathlib.Path(__file__).parent.parent
SPEED = ROOT / "benchmarks" / "speed_cpu.md"
NANO = ROOT / "keras_mixer" / "weights" / "shipped" / "mixer_nano-cifar10.md"
COLUMNS = ("task", "model", "batch", "dtype", "implementation", "images/s", "of matmul peak")


def facts() -> list[str]:
    """Lines of the README's table: the few figures that a newcomer asks for."""
    (accuracy, _), (speed,) = (tables(path.read_text().splitlines()) for path in (NANO, SPEED))
    small, quantised = accuracy[2], next(row for row in accuracy if row[2] == "LiteRT int8")
    rate = {(row[0], row[1], row[3], row[4]): row[5] for row in columns(speed)}
    b16 = ("inference", "mixer_b16")
    return [
        "| what | measured |",
        "| --- | ---: |",
        f"| Mixer-Nano on CIFAR-10's test images, {small[1]} parameters | {small[3]} |",
        f"| the same model in LiteRT int8, {quantised[5]} MB | {quantised[3]} |",
        f"| Mixer-B/16, float32, images/s | {rate[*b16, 'float32', 'keras_mixer (TensorFlow)']} |",
        f"| Mixer-B/16 in timm with `torch.compile`, images/s | {rate[*b16, 'float32', 'timm, compiled']} |",
        f"| Mixer-B/16, LiteRT dynamic int8, images/s | {rate[*b16, 'dynamic int8', 'keras_mixer under LiteRT']} |",
        "",
        "Rates were measured on two CPU cores. [docs/speed.md](docs/speed.md) names the processor and has more rates.",
    ]


def speed() -> list[str]:
    """Lines of the page on speed: some columns of the recorded table."""
    lines = SPEED.read_text().splitlines()
    (table,) = tables(lines)
    return [
        next(line for line in lines if line.startswith("Made by")),
        f"[benchmarks/{SPEED.name}](../benchmarks/{SPEED.name}) has the spreads, the versions and all columns.",
        "",
        *("| " + " | ".join(row) + " |" for row in columns(table)),
        "",
    ]


def columns(table: list[list[str]]) -> list[list[str]]:
    """The columns of the speed table that the pages show."""
    keep = [table[0].index(column) for column in COLUMNS]
    return [[row[place] for place in keep] for row in table]


def nano() -> list[str]:
    """Lines of Mixer-Nano's results: the tables of its model card."""
    accuracy, shuffled = tables(NANO.read_text().splitlines())
    return [
        *("| " + " | ".join(row) + " |" for row in accuracy),
        "",
        *("| " + " | ".join(row) + " |" for row in shuffled),
        "",
    ]


SECTIONS = {"README.md": ("facts", facts), "docs/mixer_nano.md": ("nano", nano), "docs/speed.md": ("speed", speed)}


def tables(lines: list[str]) -> list[list[list[str]]]:
    """The cells of each Markdown table in a text."""
    found: list[list[list[str]]] = []
    for before, line in zip(["", *lines], lines, strict=False):
        if line.startswith("|"):
            if not before.startswith("|"):
                found.append([])
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def updated(page: str, name: str, section: Callable[[], list[str]]) -> str:
    """The page with its section renewed."""
    begin, end = f"<!-- {name}: written by `python -m benchmarks.readme` -->", f"<!-- /{name} -->"
    before, rest = page.split(begin)
    return before + "\n".join([begin, *section(), end]) + rest.split(end)[1]


@click.command(help=__doc__)
@click.option("--check", is_flag=True)
def main(check):
    for file, (name, section) in SECTIONS.items():
        path = ROOT / file
        text = path.read_text()
        new = updated(text, name, section)
        if check and new != text:
            sys.exit(f"{file} does not show the recorded results: python -m benchmarks.readme")
        path.write_text(new)


if __name__ == "__main__":
    main()
