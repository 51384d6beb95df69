"""The network of a recipe: made for training with logits, finished as a classifier with probabilities."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from keras_mixer.models.mixer import VARIANTS, Mixer
from keras_mixer.training.recipe import ModelSpec

_SIZES = ("num_blocks", "patch_size", "hidden_dim", "tokens_mlp_dim", "channels_mlp_dim")


def initial_network(spec: ModelSpec, classes: int, name: str) -> keras.Model:
    """Builds the network that training starts from: random, or with the weights that the recipe names.

    Args:
        spec: The network of a recipe.
        classes: Classes of the head.
        name: Name of the model.

    Returns:
        A functional model from images to logits.

    Raises:
        ValueError: If the variant is unknown, if neither or both of a variant and sizes are given, or if the weights
            do not fit.
    """
    network_sizes: dict[str, Any] = sizes(spec)
    network = Mixer(
        **network_sizes,
        input_shape=(*spec.image_size, spec.channels),
        classes=classes,
        classifier_activation=None,
        stochastic_depth=spec.stochastic_depth,
        dropout=spec.dropout,
        name=name,
    )
    if spec.weights is not None:
        from keras_mixer.weights import load

        load(network, spec.weights, skip=("head",), resize=True)
    return network


def sizes(spec: ModelSpec) -> dict[str, int]:
    """Returns the five sizes of the network by the names that `keras_mixer.Mixer` gives them."""
    given = {size: getattr(spec, size) for size in _SIZES}
    if spec.variant is not None:
        named = [size for size, value in given.items() if value is not None]
        if named:
            raise ValueError(f"The variant {spec.variant} has its own {named}: leave them out, or set variant to null.")
        if spec.variant not in VARIANTS:
            raise ValueError(f"Unknown variant {spec.variant!r}. Known variants: {', '.join(VARIANTS)}.")
        given = {size: getattr(VARIANTS[spec.variant], size) for size in _SIZES}
    missing = [size for size, value in given.items() if value is None]
    if missing:
        raise ValueError(f"A model without a variant needs {', '.join(_SIZES)}; missing: {', '.join(missing)}.")
    return given


def classifier_of(network: keras.Model) -> keras.Model:
    """Returns a copy of a trained network that computes in float32 and gives probabilities."""

    def copy(layer):
        config = layer.get_config()
        config["dtype"] = "float32"
        if layer.name == "head":
            config["activation"] = "softmax"
        return type(layer).from_config(config)

    with dtype_policy("float32"):
        classifier = keras.models.clone_model(network, clone_function=copy)
    classifier.set_weights(network.get_weights())
    return classifier


@contextlib.contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Context in which new layers compute by the dtype policy `name`."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
