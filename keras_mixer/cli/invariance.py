"""`keras-mixer invariance`: training on permuted images (section 3.5 and figure 4 of the paper)."""

import dataclasses

import click

from keras_mixer.cli.options import PictureFile, PositiveNumber, corrupt_limit_option, data_dir_option, repeated
from keras_mixer.cli.output import json_option, show, start_keras
from keras_mixer.extras import require

NAMES = ("mixer", "convnet", "resnet50", "vit")
SMALLEST_RESNET_IMAGE = 32
# With Keras's momentum of 0.99, the running statistics of a ResNet would need hundreds of steps to settle.
BATCH_NORM_MOMENTUM = 0.9


@click.command()
@click.option("--dataset", default="digits", metavar="NAME", help="TFDS name or folder of images.")
@click.option("--train-split", default="train", help="Split to train on.")
@click.option("--test-split", default="test", help="Split to measure on.")
@data_dir_option
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Use only the first N images of each split.")
@corrupt_limit_option("images of each split")
@click.option("--image-size", "side", type=click.IntRange(min=1), default=8, help="Side, pixels.")
@click.option("--channels", type=click.Choice(["1", "3"]), default="1", help="1 for grey images, 3 for colour.")
@click.option("--patch-size", type=click.IntRange(min=1), default=2, help="Side, pixels.")
@repeated("--models", type=click.Choice(NAMES), default=("mixer", "convnet"), help="Architecture to train")
@click.option("--epochs", type=click.IntRange(min=1), default=5, help="Epochs of each training.")
@click.option("--batch-size", type=click.IntRange(min=1), default=64, help="Images per step.")
@click.option("--learning-rate", type=PositiveNumber(), default=3e-3, help="Highest learning rate of AdamW.")
@click.option("--seed", type=int, default=0, help="Seed of the weights, the shuffling and the permutations.")
@click.option("--output", type=PictureFile(".png", ".svg"), help="Also draw the curves, to this .png or .svg file.")
@json_option
def command(
    dataset,
    train_split,
    test_split,
    data_dir,
    limit,
    corrupt_limit,
    side,
    channels,
    patch_size,
    models,
    output,
    as_json,
    **settings,
):
    """Train architectures from scratch on original images, on shuffled patches and pixels, and on shuffled images.

    In the paper, a Mixer learns equally well from shuffled patches, and worse if all pixels are shuffled. A ResNet
    learns worse in both cases. resnet50 comes from keras.applications, vit from KerasHub with the Mixer's depth and
    width.
    """
    start_keras()
    from keras_mixer import data, evaluation
    from keras_mixer.evaluation.pictures import draw_invariance

    preprocessing = data.Preprocessing(image_size=(side, side), channels=int(channels), resize="direct")
    sources = [data.load(dataset, split=split, data_dir=data_dir) for split in (train_split, test_split)]
    train, test = (_arrays(source, preprocessing, limit, corrupt_limit) for source in sources)
    classes = len(sources[0].class_names)
    curves = evaluation.invariance_experiment(
        builders(models, preprocessing.input_shape, patch_size, classes),
        train,
        test,
        (patch_size, patch_size),
        **settings,
        report=lambda curve: click.echo(f"{curve.model}, {curve.order}: {100 * curve.accuracy[-1]:.1f} %", err=True),
    )
    rows = [{"model": c.model, "pixels": c.order, "top-1 %": 100 * c.accuracy[-1], "loss": c.loss[-1]} for c in curves]
    if as_json:
        rows = [dataclasses.asdict(curve) for curve in curves]
    show(rows, title=f"{dataset}, split {test_split}, {settings['epochs']} epochs", as_json=as_json)
    if output:
        from keras_mixer.visualization import save_figure

        save_figure(draw_invariance(curves), output)


def _arrays(source, preprocessing, limit: int | None, corrupt_limit: int):
    """Reads images and labels of a source into memory."""
    import numpy as np

    from keras_mixer.evaluation import labelled_batches

    batches = labelled_batches(source, preprocessing, 256, limit=limit, corrupt_limit=corrupt_limit)
    images, labels = zip(*batches, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def builders(names, image_shape, patch_size: int, classes: int) -> dict:
    """Returns functions by name; each builds its architecture for images of `image_shape`."""
    makers = {"mixer": _mixer, "convnet": _convnet, "resnet50": _resnet50, "vit": _vit}
    if "vit" in names:
        require("keras_hub", extra="comparators", purpose="The comparison with a ViT")
    return {name: lambda make=makers[name]: make(image_shape, patch_size, classes) for name in names}


def _mixer(image_shape, patch_size, classes):
    import keras_mixer

    sizes: dict = {"num_blocks": 3, "hidden_dim": 64, "tokens_mlp_dim": 64, "channels_mlp_dim": 128}
    return keras_mixer.Mixer(patch_size=patch_size, input_shape=image_shape, classes=classes, **sizes)


def _convnet(image_shape, patch_size, classes):
    """Builds a small plain convolutional network; it trains in seconds."""
    import keras

    images = keras.Input(image_shape)
    x = images
    for filters in (32, 64):
        x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.GroupNormalization(8)(x))
        if min(x.shape[1:3]) > 2:
            x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, keras.layers.Dense(classes, activation="softmax")(x), name="convnet")


def _resnet50(image_shape, patch_size, classes):
    import keras

    images = keras.Input(image_shape)
    factor = max(1, -(-SMALLEST_RESNET_IMAGE // min(image_shape[:2])))
    x = keras.layers.UpSampling2D(factor)(images)
    body = keras.applications.ResNet50(weights=None, input_shape=tuple(x.shape[1:]), classes=classes)
    for layer in body.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = BATCH_NORM_MOMENTUM
    return keras.Model(images, body(x), name="resnet50")


def _vit(image_shape, patch_size, classes):
    """Builds a ViT of the Mixer's depth and width."""
    import keras
    import keras_hub

    images = keras.Input(image_shape)
    backbone = keras_hub.models.ViTBackbone(
        image_shape=tuple(image_shape), patch_size=patch_size, num_layers=3, num_heads=4, hidden_dim=64, mlp_dim=128
    )
    tokens = backbone(images)  # (batch, 1 + patches, hidden_dim)
    return keras.Model(images, keras.layers.Dense(classes, activation="softmax")(tokens[:, 0]), name="vit")
