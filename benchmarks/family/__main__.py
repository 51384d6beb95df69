"""Mixer beside its siblings: cost, speed and a small training, and how cost grows with the image.

    python -m benchmarks.family --cifar10 cifar10_jpeg.npz

Writes family.md and family.png into benchmarks/. Every measurement runs in a process of its own and is kept in --work
as soon as it is done, so that the same command goes on where it stopped. Timings want a quiet machine, trainings do
not: `--part cifar10` runs these alone, and any run ends with the table of what is there.
"""

import pathlib

import click

from benchmarks.family.results import Results
from benchmarks.family.rows import ROWS
from benchmarks.family.table import markdown

GROWTH = {"CycleMLP-B1": "cycle_mlp_b1", "Mixer-S/16": "mixer_s16"}
SIDES = (224, 320, 448, 640)
BACKENDS = ("tensorflow", "jax", "torch")
PARTS = ("cifar10", "speed", "growth", "cycle_fc")


@click.command(help=__doc__)
@click.option("--cifar10", type=click.Path(exists=True, dir_okay=False), help="Archive of JPEGs; no training without.")
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), default=PARTS, help="Only these; repeatable.")
@click.option("--epochs", default=5, show_default=True, help="Epochs of the training on CIFAR-10.")
@click.option("--limit", type=int, help="Images of each split of CIFAR-10, for a quick look.")
@click.option("--repetitions", default=5, show_default=True, help="Timed calls.")
@click.option("--sides", multiple=True, type=int, default=SIDES, show_default=True, help="Image sides of the growth.")
@click.option("--only", multiple=True, type=click.Choice([row.variant for row in ROWS]), help="Only these variants.")
@click.option("--work", type=click.Path(path_type=pathlib.Path), default=pathlib.Path("runs/family"), show_default=True)
@click.option("--output", type=click.Path(path_type=pathlib.Path), default=pathlib.Path("benchmarks/family.md"))
def main(cifar10, parts, epochs, limit, repetitions, sides, only, work, output):
    rows = [row for row in ROWS if not only or row.variant in only]
    results = Results(work, set(parts) - (set() if cifar10 else {"cifar10"}))
    timed, trained = {"repetitions": repetitions}, {"epochs": epochs, "limit": limit}
    report = markdown(
        rows=[
            (
                row,
                results.of_variant("speed", row.variant, timed),
                results.of_variant("cifar10", row.variant, trained, archive=cifar10),
            )
            for row in rows
        ],
        growth={
            title: {side: results.of_variant("growth", variant, {"side": side, **timed}) for side in sides}
            for title, variant in GROWTH.items()
        },
        cycle_fc={backend: results.of_cycle_fc(backend) for backend in BACKENDS},
        made=results.made,
        budget=f"{epochs} epochs" + (f" of the first {limit:,} images" if limit else ""),
        picture=output.with_suffix(".png"),
    )
    output.write_text(report)
    click.echo(report)


if __name__ == "__main__":
    main()
