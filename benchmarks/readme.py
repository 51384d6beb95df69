"""Copies recorded results into the README, so that no number there is typed.

python -m benchmarks.readme           # rewrites the README's sections
python -m benchmarks.readme --check   # exits 1 if they are not what the recorded results say
"""

import pathlib
import sys

import click

ROOT = pathlib.Path(__file__).parent.parent
SPEED = ROOT / "benchmarks" / "speed_cpu.md"
NANO = ROOT / "keras_mixer" / "weights" / "shipped" / "mixer_nano-cifar10.md"
COLUMNS = ("task", "model", "batch", "dtype", "implementation", "images/s", "of matmul peak")


def speed() -> list[str]:
    """Lines of the speed section: some columns of the recorded table."""
    lines = SPEED.read_text().splitlines()
    made = next(line for line in lines if line.startswith("Made by"))
    (table,) = tables(lines)
    keep = [table[0].index(column) for column in COLUMNS]
    return [
        "## Speed",
        "",
        made,
        "Spreads, versions and the rest are in [benchmarks/speed_cpu.md](benchmarks/speed_cpu.md).",
        "",
        *("| " + " | ".join(row[place] for place in keep) + " |" for row in table),
        "",
    ]


def nano() -> list[str]:
    """Lines of Mixer-Nano's results: the tables of its model card."""
    lines = NANO.read_text().splitlines()
    accuracy, shuffled = tables(lines)
    return [
        *("| " + " | ".join(row) + " |" for row in accuracy),
        "",
        *("| " + " | ".join(row) + " |" for row in shuffled),
        "",
    ]


SECTIONS = {"speed": speed, "nano": nano}


def tables(lines: list[str]) -> list[list[list[str]]]:
    """The cells of each Markdown table in a text."""
    found: list[list[list[str]]] = []
    for before, line in zip(["", *lines], lines, strict=False):
        if line.startswith("|"):
            if not before.startswith("|"):
                found.append([])
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def updated(readme: str) -> str:
    """The README with its sections renewed."""
    for name, section in SECTIONS.items():
        begin, end = f"<!-- {name}: written by `python -m benchmarks.readme` -->", f"<!-- /{name} -->"
        before, rest = readme.split(begin)
        readme = before + "\n".join([begin, *section(), end]) + rest.split(end)[1]
    return readme


@click.command(help=__doc__)
@click.option("--check", is_flag=True)
def main(check):
    path = ROOT / "README.md"
    text = path.read_text()
    if check:
        sys.exit(
            0 if updated(text) == text else "README.md does not show the recorded results: python -m benchmarks.readme"
        )
    path.write_text(updated(text))


if __name__ == "__main__":
    main()
