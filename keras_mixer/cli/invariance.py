"""`keras-mixer invariance`: training on permuted images (section 3.5 and figure 4 of the paper)."""

import click

from keras_mixer.cli.comparators import NAMES
from keras_mixer.cli.output import json_option, show
from keras_mixer.cli.picture_file import PictureFile
from keras_mixer.cli.positive_number import PositiveNumber
from keras_mixer.cli.startup import start


@click.command()
@click.option("--dataset", default="digits", show_default=True, metavar="NAME", help="TFDS name or folder of images.")
@click.option("--train-split", default="train", show_default=True)
@click.option("--test-split", default="test", show_default=True)
@click.option("--data-dir", type=click.Path(file_okay=False), help="Where TFDS datasets are stored.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Use the first N images of each split alone.")
@click.option("--image-size", type=click.IntRange(min=1), default=8, show_default=True, help="Side, pixels.")
@click.option("--channels", type=click.Choice(["1", "3"]), default="1", show_default=True)
@click.option("--patch-size", type=click.IntRange(min=1), default=2, show_default=True, help="Side, pixels.")
@click.option("--models", type=click.Choice(NAMES), multiple=True, default=("mixer", "convnet"), show_default=True)
@click.option("--epochs", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--learning-rate", type=PositiveNumber(), default=3e-3, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--output", type=PictureFile(".png", ".svg"), help="Also draw the curves, to this .png or .svg file.")
@json_option
def command(
    dataset,
    train_split,
    test_split,
    data_dir,
    limit,
    image_size,
    channels,
    patch_size,
    models,
    epochs,
    batch_size,
    learning_rate,
    seed,
    output,
    as_json,
):
    """Train architectures from scratch on original images, on shuffled patches and pixels, and on shuffled images.

    In the paper a Mixer learns the same from shuffled patches and loses where all pixels are shuffled; a ResNet loses
    on both. resnet50 is that of keras.applications, vit a ViT of KerasHub in the Mixer's size.
    """
    import dataclasses

    start("tensorflow", "keras")
    from keras_mixer import data, evaluation
    from keras_mixer.cli.comparators import builders
    from keras_mixer.evaluation.pictures import draw_invariance

    preprocessing = data.Preprocessing(image_size=(image_size, image_size), channels=int(channels), resize="direct")
    sources = [data.load(dataset, split=split, data_dir=data_dir) for split in (train_split, test_split)]
    train, test = (_arrays(source, preprocessing, limit) for source in sources)
    classes = len(sources[0].class_names)
    curves = evaluation.invariance_experiment(
        builders(models, preprocessing.input_shape, patch_size, classes),
        train,
        test,
        (patch_size, patch_size),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        report=lambda curve: click.echo(f"{curve.model}, {curve.order}: {100 * curve.accuracy[-1]:.1f} %", err=True),
    )
    rows = [{"model": c.model, "pixels": c.order, "top-1 %": 100 * c.accuracy[-1], "loss": c.loss[-1]} for c in curves]
    if as_json:
        rows = [dataclasses.asdict(curve) for curve in curves]
    show(rows, title=f"{dataset}, split {test_split}, {epochs} epochs", as_json=as_json)
    if output:
        from keras_mixer.visualization import save_figure

        save_figure(draw_invariance(curves), output)


def _arrays(source, preprocessing, limit: int | None):
    """All images and labels of a source in memory."""
    import numpy as np

    from keras_mixer.evaluation import labelled_batches

    images, labels = zip(*labelled_batches(source, preprocessing, 256, limit=limit), strict=True)
    return np.concatenate(images), np.concatenate(labels)
