"""The network of a recipe: built for training with logits, finished with probabilities.

This is the only file of training that knows where architectures and weights come from.
"""

import dataclasses
import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_mixer.applications import CONSTRUCTORS
from keras_mixer.data.trained_model import load_card, load_model
from keras_mixer.hub import is_address
from keras_mixer.layers import MixerBlock
from keras_mixer.listing import plural
from keras_mixer.models import find_architecture, find_variant
from keras_mixer.models.catalogue import at_shape, preprocessing_of
from keras_mixer.models.parts import dtype_policy
from keras_mixer.preprocessing import Preprocessing
from keras_mixer.training.distillation import Teacher
from keras_mixer.training.recipe import RATES, ModelSpec, PreprocessingSpec, Recipe, is_local, is_trained_model
from keras_mixer.weights import change_resolution, load_with_fresh_head
from keras_mixer.weights.published.cache import set_of
from keras_mixer.weights.reading.checkpoint import quantised_layer

# Arguments of the builders that follow from the rest of a recipe.
_DECIDED = (
    "input_shape",
    "input_tensor",
    "include_top",
    "classes",
    "classifier_activation",
    "pooling",
    "name",
    "dtype",
)

_log = logging.getLogger(__name__)


def initial_network(recipe: Recipe, classes: int) -> keras.Model:
    """Builds the network that training starts from, with random weights or those that the recipe names.

    `keras_mixer.weights.change_resolution` converts weights of another resolution. If the number of classes differs,
    the head keeps its initial weights. A run folder or a `.keras` file defines its own architecture, so the recipe must
    not name one. The recipe may change the stochastic depth and dropout of a Mixer, but not of other architectures.

    Args:
        recipe: The recipe, which names the model, its weights and its input.
        classes: Classes of the head.

    Returns:
        A functional model from images to logits.

    Raises:
        ValueError: If the variant, the architecture or an argument is unknown, or the weights do not fit.
        OSError: If the weights cannot be read or downloaded.

    Example:
        >>> recipe = keras_mixer.training.recipes.get("digits")
        >>> keras_mixer.training.initial_network(recipe, classes=10).output_shape
        (None, 10)
    """
    spec = recipe.model
    builder, sizes = find_builder(spec)
    if builder is None:
        network = _from_trained_model(recipe, classes)
        if frozen := [layer.name for layer in network.layers if layer.weights and not layer.trainable]:
            _log.warning(
                "%s stays partly frozen, as it was saved (%s, such as %r). To train all of it, set the layers' "
                "`trainable` and save the model again.",
                spec.weights,
                plural(len(frozen), "layer"),
                frozen[0],
            )
    else:
        shape = recipe.preprocessing.input_shape
        decided = {"input_shape": shape, "classes": classes, "classifier_activation": None, "name": recipe.name}
        arguments: dict[str, Any] = {**spec.arguments, **decided}
        changed = [name for name in spec.arguments if name not in RATES]
        if spec.variant is not None and not changed:
            network = CONSTRUCTORS[spec.variant](weights=spec.weights, **arguments)
        elif spec.weights is None or is_local(spec.weights) or is_address(spec.weights) or spec.variant is None:
            network = builder(**{**sizes, **arguments})
            if spec.weights is not None:
                load_with_fresh_head(network, spec.weights, resize=True)
        else:
            raise ValueError(
                f"The weights {spec.weights!r} fit a {spec.variant} without {', '.join(changed)}: leave that out."
            )
    network.preprocessing = input_preprocessing(recipe)
    if spec.frozen:
        freeze_body(network)
    return network


def teacher_of(recipe: Recipe, class_names: Sequence[str]) -> Teacher | None:
    """Builds the teacher of a recipe, which ends in logits; None if the recipe has none.

    Raises:
        ValueError: If the teacher has other classes or channels, or the recipe does not say its variant.
        OSError: If its weights cannot be read or downloaded.
    """
    spec = recipe.distillation
    if spec.teacher is None:
        return None
    if is_trained_model(spec.teacher):
        if spec.variant is not None:
            raise ValueError(f"{spec.teacher} knows its own architecture: set distillation.variant to null.")
        names = load_card(spec.teacher).class_names
        if tuple(names) != tuple(class_names):
            raise ValueError(
                f"The teacher {spec.teacher} has the classes {', '.join(names)}, but the data has "
                f"{', '.join(class_names)}."
            )
    elif spec.variant is None:
        raise ValueError(
            f"distillation.teacher={spec.teacher} is not a run folder or a .keras file: set distillation.variant to "
            f"the variant that the weights are of."
        )
    given = recipe.preprocessing
    taught = dataclasses.replace(
        recipe,
        name="teacher",
        model=ModelSpec(variant=spec.variant, weights=spec.teacher),
        preprocessing=PreprocessingSpec(image_size=given.image_size, channels=given.channels, resize=given.resize),
    )
    find_builder(taught.model)
    if spec.variant is None:
        model = _from_trained_model(taught, len(class_names))
    else:
        model = CONSTRUCTORS[spec.variant](
            weights=spec.teacher, input_shape=given.input_shape, classifier_activation=None, name="teacher"
        )
        if model.output_shape[-1] != len(class_names):
            raise ValueError(
                f"The teacher {spec.teacher} has {model.output_shape[-1]} classes, but the data has {len(class_names)}."
            )
        entry = set_of(spec.variant, spec.teacher)
        names = () if entry is None else entry.class_names or ()
        if tuple(names) != tuple(class_names):
            if set(names) == set(class_names):
                raise ValueError(
                    f"The teacher {spec.teacher} has the classes of the data in another order: {', '.join(names)}."
                )
            _log.info("The classes of the teacher %s are taken to be those of the data, in this order.", spec.teacher)
    return Teacher(model, input_preprocessing(taught), input_preprocessing(recipe))


def find_builder(spec: ModelSpec) -> tuple[Callable[..., keras.Model] | None, dict[str, Any]]:
    """Returns the builder of a recipe's model and the sizes of its variant. A trained model needs no builder: None.

    Raises ValueError if a name is unknown, or an argument is unknown, missing or fixed by the variant.
    """
    if is_trained_model(spec.weights):
        changed = [name for name in spec.arguments if name not in RATES]
        if spec.variant is not None or spec.architecture is not None or changed:
            named = ", ".join(f"model.{name}" for name in ("variant", "architecture", *changed))
            raise ValueError(f"{spec.weights} brings its own architecture: set {named} to null.")
        return None, {}
    name = spec.variant or spec.architecture or "mixer"
    builder, sizes = find_variant(name) if spec.variant else (find_architecture(name).builder, {})
    parameters = {
        parameter.name: parameter.default is parameter.empty
        for parameter in inspect.signature(builder).parameters.values()
        if parameter.name not in _DECIDED
    }
    unknown = [argument for argument in spec.arguments if argument not in parameters]
    if unknown:
        raise ValueError(f"{name} has no argument {', '.join(unknown)}: model.arguments takes {', '.join(parameters)}.")
    given = [argument for argument in spec.arguments if argument in sizes]
    if given:
        raise ValueError(
            f"The variant {name} has its own {', '.join(given)}: leave that out, or set model.variant to null and name "
            f"a model.architecture."
        )
    missing = [
        argument for argument, needed in parameters.items() if needed and argument not in {*sizes, *spec.arguments}
    ]
    if missing:
        raise ValueError(f"A model without a variant needs all sizes of {name}; missing: {', '.join(missing)}.")
    return builder, sizes


def input_preprocessing(recipe: Recipe) -> Preprocessing:
    """Returns the recipe's preprocessing. Fields that are None are taken from its weights or variant."""
    spec, shape = recipe.model, recipe.preprocessing.input_shape
    if is_trained_model(spec.weights):
        usual = load_card(str(spec.weights)).preprocessing
    elif (spec.variant or is_address(spec.weights)) and (found := set_of(spec.variant or "", spec.weights)):
        usual = at_shape(found.preprocessing, shape)
    elif spec.variant is None:
        usual = at_shape(find_architecture(spec.architecture or "mixer").preprocessing, shape)
    else:
        usual = preprocessing_of(spec.variant, shape)
    return recipe.preprocessing.complete(usual)


def freeze_body(network: keras.Model, frozen: bool = True) -> None:
    """Freezes every layer except `head`, or makes all of them trainable."""
    for layer in network.layers:  # on the TensorFlow backend, `Model.trainable` does not reach the layers of a copy
        layer.trainable = not frozen or layer.name == "head"


def classifier_of(network: keras.Model) -> keras.Model:
    """Returns a copy of a trained network that computes in float32 and outputs probabilities."""
    with dtype_policy("float32"):
        return _copy(network, lambda layer: {"activation": "softmax"} if layer.name == "head" else {}, network.name)


def _from_trained_model(recipe: Recipe, classes: int) -> keras.Model:
    spec, wanted = recipe.model, recipe.preprocessing
    saved, card = load_model(str(spec.weights))
    if card.preprocessing.channels != wanted.channels:
        raise ValueError(
            f"{spec.weights} takes images of {card.preprocessing.channels} channels, but preprocessing.channels is "
            f"{wanted.channels}."
        )
    if found := quantised_layer(saved):
        raise ValueError(
            f"{spec.weights} is quantised ({found}), and quantised weights cannot be trained: name the model from "
            f"before `model.quantize`."
        )
    if tuple(saved.input_shape[1:3]) != wanted.image_size:
        saved = change_resolution(saved, wanted.image_size)
    if "head" not in {layer.name for layer in saved.layers}:
        raise ValueError(
            f"{spec.weights} has no layer called 'head', so its classifier cannot be told from its other layers: name "
            f"the last layer so and save the model again."
        )
    depth, dropout = (spec.arguments.get(name, 0.0) for name in RATES)
    blocks = [layer.name for layer in saved.layers if isinstance(layer, MixerBlock)]
    if not blocks and (depth or dropout):
        # The other architectures have a layer for each rate, but only if the rate was above 0.
        raise ValueError(
            f"{spec.weights} is not a Mixer: it keeps its stochastic depth and dropout. Set "
            f"model.stochastic_depth and model.dropout to 0, or name its model.variant and start from a checkpoint."
        )

    def for_training(layer) -> dict:
        if layer.name == "head":
            return {"activation": None, "units": classes}
        if layer.name in blocks:
            # The rates rise linearly over all MLPs, as in `keras_mixer.Mixer`.
            first, last = 2 * blocks.index(layer.name), 2 * len(blocks) - 1
            rates = tuple(depth * place / last for place in (first, first + 1))
            return {"stochastic_depth": rates, "dropout": dropout}
        return {}

    return _copy(saved, for_training, recipe.name)


def _copy(model: keras.Model, changes, name: str) -> keras.Model:
    """Copies a model with changed layers under the current dtype policy. Weights that no longer fit are initialised."""

    def rebuilt(layer):
        # The head computes at least in float32, as in `keras_mixer.Mixer`.
        dtype = "float32" if layer.name == "head" else keras.config.dtype_policy().name
        return type(layer).from_config({**layer.get_config(), "dtype": dtype, **changes(layer)})

    copied = keras.models.clone_model(model, clone_function=rebuilt)
    copied.name = name
    for old, new in zip(model.layers, copied.layers, strict=True):
        if [weight.shape for weight in old.weights] == [weight.shape for weight in new.weights]:
            new.set_weights(old.get_weights())
    return copied
