"""The MODEL of a command: a trained one by its path, or a variant by its name."""

import dataclasses
import os

import click

from keras_mixer.cli.startup import start

model_help = "MODEL is a run folder, a .keras file, or the name of a variant such as mixer_b16."
weights_option = click.option("--weights", help="Published set or path, for a variant; random weights otherwise.")


def open_model(name: str, weights: str | None = None):
    """Opens what MODEL names.

    Returns:
        The model and its card; without classes for a variant, but for weights that bring their names.

    Raises:
        ValueError: If there is no such model.
    """
    start("tensorflow", "keras")
    from keras_mixer.models import ARCHITECTURES, VARIANTS
    from keras_mixer.weights import available

    if name in ARCHITECTURES:
        from keras_mixer import applications, data, siblings

        if name in VARIANTS:
            model = applications.CONSTRUCTORS[name](weights=weights)
        else:
            model = siblings.CONSTRUCTORS[name](weights=weights, input_shape=(224, 224, 3))
        height, width, channels = model.input_shape[1:]
        wanted = dataclasses.asdict(model.preprocessing) | {"image_size": (height, width), "channels": channels}
        preprocessing = data.Preprocessing(**wanted)
        published = next((entry for entry in available(name) if entry.name == str(weights)), None)
        return model, data.ModelCard(name, published.class_names if published else (), preprocessing)
    if weights is not None:
        raise ValueError("--weights is for a variant named as MODEL; a run folder brings its own.")
    from keras_mixer.data import load_model

    try:
        return load_model(name)
    except ValueError as error:
        if os.path.exists(name):
            raise
        raise ValueError(f"{error} Variants: {', '.join(ARCHITECTURES)}.") from error
