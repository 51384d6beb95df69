"""CIFAR-10 from scratch on a CPU, then fine-tuned from 32 to 64 px.

    python benchmarks/unpack_jpegs.py cifar10_jpeg.npz runs/cifar10_images
    python -m benchmarks.training_cifar10 runs/cifar10_images

The recipe `cifar10` is cut to a smaller Mixer and `--epochs` passes, about a quarter of an hour on two cores; the model
goes on at twice the resolution for `--fine-epochs`. Writes benchmarks/training_cifar10.md.
"""

import datetime
import pathlib

import click

from benchmarks.speed.table import machine
from keras_mixer.training import recipes, train


@click.command()
@click.argument("images", type=click.Path(exists=True, file_okay=False, path_type=pathlib.Path))
@click.option("--work", type=click.Path(path_type=pathlib.Path), default=pathlib.Path("runs/cifar10_benchmark"))
@click.option("--epochs", default=6.0, show_default=True, help="Passes at 32 px.")
@click.option("--fine-epochs", default=1.0, show_default=True, help="Passes at 64 px.")
@click.option("--output", type=click.Path(path_type=pathlib.Path), default=pathlib.Path(__file__).with_suffix(".md"))
def main(images, work, epochs, fine_epochs, output):
    # Short runs want a smaller model, Muon at a great rate, and less augmentation and regularisation than 300 epochs.
    recipe = recipes.get("cifar10").override(
        {
            "data.dataset": str(images.resolve()),
            "schedule.epochs": str(epochs),
            "schedule.warmup_steps": "50",
            "optimizer.name": "muon",
            "optimizer.momentum": "0.95",
            "optimizer.learning_rate": "0.005",
            "eval_steps": "1000000",  # once, at the end
            "execution.precision": "mixed_bfloat16",
            "augmentation.randaugment_layers": "0",
            "augmentation.mixup": "0",
            "model.stochastic_depth": "0",
            "model.num_blocks": "6",
            "model.hidden_dim": "96",
            "model.channels_mlp_dim": "256",
        }
    )
    sizes = ("num_blocks", "patch_size", "hidden_dim", "tokens_mlp_dim", "channels_mlp_dim")
    small = train(recipe, work / "px32", progress=True)
    fine = recipe.override(
        {
            **{f"model.{size}": "null" for size in sizes},
            "model.weights": str(work / "px32"),
            "model.image_size": "[64, 64]",
            "schedule.epochs": str(fine_epochs),
            "optimizer.learning_rate": "0.002",
        }
    )
    large = train(fine, work / "px64", progress=True)
    rows = [(pixels, run.parameters, run.accuracy, run.seconds) for pixels, run in ((32, small), (64, large))]
    command = f"python -m benchmarks.training_cifar10 FOLDER --epochs {epochs:g} --fine-epochs {fine_epochs:g}"
    text = report(rows, epochs, fine_epochs, f"Made by `{command}` on {datetime.date.today()}: {machine()}.")
    output.write_text(text)
    click.echo(text)


def report(rows: list[tuple], epochs: float, fine_epochs: float, made: str) -> str:
    """The record, of rows `(pixels, parameters, accuracy, seconds)` at 32 and at 64 px."""
    lines = [
        "# CIFAR-10 from scratch, then at twice the resolution",
        "",
        made,
        f"The recipe `cifar10`, cut to {rows[0][1]:,} parameters and {epochs:g} epochs of crops and flips with",
        f"Muon; then its weights by `change_resolution` at 64 px, {fine_epochs:g} more.",
        "The test split is read at the end of each and decides nothing.",
        "",
        "| image | parameters | test accuracy | training, s |",
        "|---:|---:|---:|---:|",
    ]
    for pixels, parameters, accuracy, seconds in rows:
        lines.append(f"| {pixels} px | {parameters:,} | {100 * accuracy:.2f} % | {seconds:,.0f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
