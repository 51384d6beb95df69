"""Measures the Mixers of several packages side by side and writes the table.

python -m benchmarks.speed cpu      # benchmarks/speed_cpu.md; peers get environments of their own
python -m benchmarks.speed gpu      # benchmarks/speed_gpu.md; JAX, Flax, PyTorch and timm in this interpreter
python -m benchmarks.speed smoke    # seconds of work, to check the harness; gpu_smoke: the rows of gpu, small, on a CPU
"""

import pathlib

import click

from benchmarks.speed import rows, table
from benchmarks.speed.harness import measure

PLANS = {
    "cpu": (rows.cpu_rows, 5),
    "gpu": (rows.gpu_rows, 5),
    "smoke": (rows.smoke_rows, 2),
    "gpu_smoke": (rows.gpu_smoke_rows, 2),
}


@click.command(help=__doc__)
@click.argument("plan", type=click.Choice(list(PLANS)))
@click.option("--rounds", type=click.IntRange(1), help="Turns of each row, of some steps each.")
@click.option(
    "--environments", type=click.Path(path_type=pathlib.Path), help="Folder to keep the peers' environments in."
)
@click.option("--seconds", type=float, help="Time for all rows. What is not ready by then is not measured.")
@click.option("--only", help="Only rows whose label, dtype or task contains this.")
@click.option(
    "--output",
    type=click.Path(path_type=pathlib.Path),
    help="Markdown file to write; with --only, which makes a part of the table, nothing is written without it.",
)
def main(plan, rounds, environments, seconds, only, output):
    make_rows, default_rounds = PLANS[plan]
    chosen = [row for row in make_rows() if not only or only in f"{row.label} {row.dtype} {row.task}"]
    if not chosen:
        raise click.UsageError(f"No row of {plan} has {only!r} in its label, dtype or task.")
    measurements = measure(chosen, rounds or default_rounds, environments, seconds)
    command = f"python -m benchmarks.speed {plan}" + (f" --rounds {rounds}" if rounds else "")
    report = table.markdown(measurements, command, table.machine())
    click.echo(report)
    output = destination(plan, only, output)
    if output is not None:
        output.write_text(report)
        click.echo(f"Written to {output}.")


def destination(plan: str, only: str | None, output: pathlib.Path | None) -> pathlib.Path | None:
    """The file to write: what was asked for, else the plan's own table, which a part of the rows does not replace."""
    if output is not None or only:
        return output
    return pathlib.Path(__file__).parent.parent / f"speed_{plan}.md"


if __name__ == "__main__":
    main()
