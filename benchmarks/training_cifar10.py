"""CIFAR-10 from scratch on a CPU, then fine-tuned from 32 to 64 px.

    python benchmarks/unpack_jpegs.py cifar10_jpeg.npz runs/cifar10_images
    python benchmarks/training_cifar10.py runs/cifar10_images

The recipe `cifar10` is cut to `--epochs`, and its model goes on at twice the resolution for `--fine-epochs`.
"""

import json
import pathlib

import click

from keras_mixer.training import recipes, train


@click.command()
@click.argument("images", type=click.Path(exists=True, file_okay=False, path_type=pathlib.Path))
@click.option("--work", type=click.Path(path_type=pathlib.Path), default=pathlib.Path("runs/cifar10_benchmark"))
@click.option("--epochs", default=12.0, show_default=True, help="Passes at 32 px.")
@click.option("--fine-epochs", default=2.0, show_default=True, help="Passes at 64 px.")
@click.option("--results", type=click.Path(path_type=pathlib.Path), help="JSON file for the figures.")
def main(images, work, epochs, fine_epochs, results):
    # Short runs want less augmentation and regularisation than 300 epochs.
    recipe = recipes.get("cifar10").override(
        {
            "data.dataset": str(images.resolve()),
            "schedule.epochs": str(epochs),
            "schedule.warmup_steps": "200",
            "augmentation.randaugment_layers": "0",
            "augmentation.mixup": "0",
            "model.stochastic_depth": "0",
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
            "optimizer.learning_rate": "0.0003",
        }
    )
    large = train(fine, work / "px64", progress=True)
    figures = [
        {"pixels": pixels, "test accuracy": run.accuracy, "parameters": run.parameters, "seconds": run.seconds}
        for pixels, run in ((32, small), (64, large))
    ]
    click.echo(json.dumps(figures, indent=2))
    if results:
        results.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
