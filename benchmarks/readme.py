"""Copies the speed table into the README, so that no number there is typed.

python -m benchmarks.readme           # rewrites the README's section
python -m benchmarks.readme --check   # exits 1 if it is not what the recorded results say
"""

import pathlib
import sys

import click

ROOT = pathlib.Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "speed_cpu.md"
BEGIN, END = "<!-- speed: written by `python -m benchmarks.readme` -->", "<!-- /speed -->"
COLUMNS = ("task", "model", "batch", "dtype", "implementation", "images/s", "of matmul peak")


def section() -> str:
    """The README's speed section, from the recorded table."""
    lines = RESULTS.read_text().splitlines()
    made = next(line for line in lines if line.startswith("Made by"))
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    keep = [table[0].index(column) for column in COLUMNS]
    rows = ["| " + " | ".join(row[place] for place in keep) + " |" for row in table]
    return "\n".join(
        [
            BEGIN,
            "## Speed",
            "",
            made,
            "Spreads, versions and the rest are in [benchmarks/speed_cpu.md](benchmarks/speed_cpu.md).",
            "",
            *rows,
            "",
            END,
        ]
    )


def updated(readme: str) -> str:
    """The README with its section renewed."""
    before, rest = readme.split(BEGIN)
    return before + section() + rest.split(END)[1]


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
