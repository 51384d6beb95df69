"""The network of a recipe: random or from weights, made for training with logits, finished with probabilities."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from keras_mixer import applications, siblings
from keras_mixer.layers import MixerBlock
from keras_mixer.models import find_variant
from keras_mixer.models.mixer import VARIANTS, Mixer
from keras_mixer.preprocessing import Preprocessing
from keras_mixer.training.recipe import ModelSpec, is_trained_model
from keras_mixer.weights import find
from keras_mixer.weights.loading import is_path, load_with_fresh_head

_SIZES = ("num_blocks", "patch_size", "hidden_dim", "tokens_mlp_dim", "channels_mlp_dim")
_OF_THE_APPENDIX = ("untied", "channel_groups", "grouping", "tokens")


def initial_network(spec: ModelSpec, classes: int, name: str) -> keras.Model:
    """Builds the network that training starts from: random, or with the weights that the recipe names.

    Weights of another resolution are taken to the recipe's as by `keras_mixer.weights.change_resolution`; a head of
    another number of classes starts fresh. A run folder or a `.keras` file brings its own architecture, which the
    recipe must then not name; stochastic depth and dropout can be set anew in a Mixer only, not in a sibling.

    Args:
        spec: The network of a recipe.
        classes: Classes of the head.
        name: Name of the model.

    Returns:
        A functional model from images to logits.

    Raises:
        ValueError: If the variant is unknown, if neither or both of a variant and sizes are given, or if the weights
            do not fit.
        OSError: If the weights cannot be read or fetched.
    """
    if is_trained_model(spec.weights):
        return _from_trained_model(spec, classes, name)
    arguments: dict[str, Any] = {
        "input_shape": (*spec.image_size, spec.channels),
        "classes": classes,
        "classifier_activation": None,
        "stochastic_depth": spec.stochastic_depth,
        "dropout": spec.dropout,
        "name": name,
    }
    network_sizes: dict[str, Any] = sizes(spec)
    changed = _changed_mixing(spec)
    if spec.weights is not None and spec.variant in VARIANTS and not changed:
        return applications.CONSTRUCTORS[spec.variant](weights=spec.weights, **arguments)
    builder = Mixer if spec.variant is None else find_variant(spec.variant)[0]
    if changed and builder is not Mixer:
        raise ValueError(f"The variant {spec.variant} is no Mixer and has no {', '.join(changed)}: leave them out.")
    if changed and spec.weights is not None and not is_path(spec.weights):
        raise ValueError(f"The weights {spec.weights!r} are of a Mixer without {', '.join(changed)}: leave them out.")
    network = builder(**{**network_sizes, **changed, **arguments})
    if spec.weights is not None:
        load_with_fresh_head(network, spec.weights, resize=True)
    return network


def input_preprocessing(spec: ModelSpec) -> Preprocessing:
    """Returns how the recipe's network wants its pixels and its crop; size and way of resizing are the recipe's own."""
    if spec.weights is not None and is_trained_model(spec.weights):
        from keras_mixer.data.trained_model import load_card

        return load_card(spec.weights).preprocessing
    if spec.variant in siblings.CONSTRUCTORS:
        return siblings.preprocessing_of(str(spec.variant), (*spec.image_size, spec.channels))
    if spec.weights is not None and spec.variant is not None and not is_path(spec.weights):
        return find(spec.variant, spec.weights).preprocessing
    return Preprocessing()  # [-1, 1], as the paper


def sizes(spec: ModelSpec) -> dict[str, Any]:
    """Returns the sizes of the network by the names that its builder gives them: `keras_mixer.Mixer` or a sibling."""
    given = _named_sizes(spec)
    if spec.variant is not None:
        own = find_variant(spec.variant)[1]
        if given:
            raise ValueError(
                f"The variant {spec.variant} has its own {', '.join(given)}: leave them out, or set model.variant to "
                f"null."
            )
        return own
    missing = [size for size in _SIZES if size not in given]
    if missing:
        raise ValueError(f"A model without a variant needs {', '.join(_SIZES)}; missing: {', '.join(missing)}.")
    return given


def classifier_of(network: keras.Model) -> keras.Model:
    """Returns a copy of a trained network that computes in float32 and gives probabilities."""

    def finished(layer) -> dict:
        return {"activation": "softmax"} if layer.name == "head" else {}

    with dtype_policy("float32"):
        return _copy(network, finished, network.name)


@contextlib.contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Context in which new layers compute by the dtype policy `name`."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _named_sizes(spec: ModelSpec) -> dict[str, int]:
    return {size: getattr(spec, size) for size in _SIZES if getattr(spec, size) is not None}


def _changed_mixing(spec: ModelSpec) -> dict[str, Any]:
    """The arguments of the appendix's variants that are not at their defaults."""
    plain = ModelSpec()
    return {name: getattr(spec, name) for name in _OF_THE_APPENDIX if getattr(spec, name) != getattr(plain, name)}


def _from_trained_model(spec: ModelSpec, classes: int, name: str) -> keras.Model:
    from keras_mixer.data import load_model
    from keras_mixer.weights import change_resolution

    if spec.variant is not None or _named_sizes(spec) or _changed_mixing(spec):
        raise ValueError(
            f"{spec.weights} brings its own architecture: set model.variant and the sizes of the recipe to null, and "
            f"leave out {', '.join(_OF_THE_APPENDIX)}."
        )
    saved, card = load_model(str(spec.weights))
    if card.preprocessing.channels != spec.channels:
        raise ValueError(
            f"{spec.weights} takes images of {card.preprocessing.channels} channels, but model.channels is "
            f"{spec.channels}."
        )
    if tuple(saved.input_shape[1:3]) != tuple(spec.image_size):
        saved = change_resolution(saved, spec.image_size)
    blocks = [layer.name for layer in saved.layers if isinstance(layer, MixerBlock)]
    if not blocks and (spec.stochastic_depth or spec.dropout):
        # Where a sibling drops nothing it has no layer that could.
        raise ValueError(
            f"{spec.weights} is no Mixer: it keeps the stochastic depth and dropout that it was built with. Set "
            f"model.stochastic_depth and model.dropout to 0, or name its model.variant and start from a checkpoint."
        )

    def for_training(layer) -> dict:
        if layer.name == "head":
            return {"activation": None, "units": classes}
        if layer.name in blocks:
            # As `keras_mixer.Mixer` sets them: rising linearly over all the MLPs.
            first, last = 2 * blocks.index(layer.name), 2 * len(blocks) - 1
            rates = tuple(spec.stochastic_depth * place / last for place in (first, first + 1))
            return {"stochastic_depth": rates, "dropout": spec.dropout}
        return {}

    return _copy(saved, for_training, name)


def _copy(model: keras.Model, changes, name: str) -> keras.Model:
    """Copies a model with changed configurations under the current dtype policy, and the weights that still fit."""

    def rebuilt(layer):
        # The head computes in float32 at least, as `keras_mixer.Mixer` makes it.
        dtype = "float32" if layer.name == "head" else keras.config.dtype_policy().name
        return type(layer).from_config({**layer.get_config(), "dtype": dtype, **changes(layer)})

    copied = keras.models.clone_model(model, clone_function=rebuilt)
    copied.name = name
    for old, new in zip(model.layers, copied.layers, strict=True):
        if [weight.shape for weight in old.weights] == [weight.shape for weight in new.weights]:
            new.set_weights(old.get_weights())
    return copied
