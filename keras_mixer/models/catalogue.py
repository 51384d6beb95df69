"""The catalogue of architectures. To add one, write its file and add one line here, or call `register`."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from keras_mixer.models.parts import COSTS
from keras_mixer.models.record import Architecture, Variant
from keras_mixer.preprocessing import Preprocessing

if TYPE_CHECKING:
    import keras

_FILES = (
    "mixer",
    "res_mlp",
    "g_mlp",
    "conv_mixer",
    "vision_permutator",
    "cycle_mlp",
)
CATALOGUE: tuple[Architecture, ...] = tuple(import_module(f"keras_mixer.models.{file}").ARCHITECTURE for file in _FILES)
_registered: list[Architecture] = []


class _Variants(Mapping[str, tuple[Callable[..., Any], Any]]):
    """Every variant by name, with the architecture's builder and the variant's sizes."""

    def _rows(self) -> dict[str, tuple[Callable[..., Any], Any]]:
        return {row.name: (known.builder, row.sizes) for known in _registered for row in known.variants}

    def __getitem__(self, name: str) -> tuple[Callable[..., Any], Any]:
        return self._rows()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows())

    def __len__(self) -> int:
        return len(self._rows())

    def __repr__(self) -> str:
        return repr(self._rows())


ARCHITECTURES = _Variants()


def register(architecture: Architecture) -> None:
    """Adds an architecture to the catalogue.

    Its variants then have constructors in `keras_mixer.applications`, `keras_mixer.weights.load` reads its foreign
    checkpoints, and its variants and published sets are known by name everywhere.

    Args:
        architecture: The record.

    Raises:
        ValueError: If the name of the architecture, or of one of its variants or constructors, is already in use.

    Example:
        >>> keras_mixer.models.register(keras_mixer.models.Architecture("my_mlp", MyMLP, variants=()))
    """
    taken = {name for known in _registered for name in _names(known)}
    clashes = [name for name in _names(architecture) if name in taken]
    if clashes:
        raise ValueError(f"The catalogue already has {', '.join(clashes)}: choose other names.")
    _registered.append(architecture)


def _names(architecture: Architecture) -> list[str]:
    return [architecture.name, *(name for row in architecture.variants for name in (row.name, row.constructor))]


def architectures() -> tuple[Architecture, ...]:
    """Returns the records of all architectures, registered ones last."""
    return tuple(_registered)


def find_architecture(name: str) -> Architecture:
    """Returns the record of the architecture with this name, or with a variant of this name.

    Raises:
        ValueError: If the name is unknown; the message lists those that exist.

    Example:
        >>> keras_mixer.models.find_architecture("mixer_b16").name
        'mixer'
    """
    for architecture in _registered:
        if name == architecture.name or any(name == row.name for row in architecture.variants):
            return architecture
    known = ", ".join(architecture.name for architecture in _registered)
    raise ValueError(
        f"Unknown variant {name!r}. Known variants: {', '.join(ARCHITECTURES)}. Known architectures: {known}."
    )


def find_row(variant: str) -> tuple[Architecture, Variant]:
    """Returns the records of a variant and of its architecture; raises ValueError if it is unknown."""
    architecture = find_architecture(variant)
    for row in architecture.variants:
        if row.name == variant:
            return architecture, row
    raise ValueError(
        f"{variant!r} is an architecture. Its variants: {', '.join(r.name for r in architecture.variants)}."
    )


def find_variant(variant: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Returns the builder of a variant's architecture and the variant's sizes, as arguments of that builder.

    Raises:
        ValueError: If the variant is unknown; the message lists those that exist.
    """
    architecture, row = find_row(variant)
    return architecture.builder, {field.name: getattr(row.sizes, field.name) for field in dataclasses.fields(row.sizes)}


def build(variant: str, **arguments) -> "keras.Model":
    """Builds a variant of any architecture with random weights.

    Args:
        variant: Name of the variant, such as "mixer_b16" or "cycle_mlp_b1".
        **arguments: Further arguments of the architecture's builder, such as `input_shape` and `classes`.

    Raises:
        ValueError: If the variant is unknown or an argument out of range.

    Example:
        >>> keras_mixer.models.build("res_mlp_24", classes=10).count_params()
        29639530
    """
    builder, sizes = find_variant(variant)
    return builder(**{"name": variant, **sizes, **arguments})


def preprocessing_of(variant: str, image_shape: Sequence[int | None]) -> Preprocessing:
    """Returns the preprocessing that a variant expects, with random weights and with most published ones.

    Args:
        variant: Name of the variant.
        image_shape: (height, width, channels). None for a side means 224 pixels. If the mean and standard deviation are
            per channel, they are averaged for one channel, and repeated cyclically for any other number.

    Example:
        >>> keras_mixer.siblings.preprocessing_of("res_mlp_24", (224, 224, 3)).mean
        (0.485, 0.456, 0.406)
    """
    architecture, row = find_row(variant)
    return at_shape(row.preprocessing or architecture.preprocessing, image_shape)


def at_shape(preprocessing: Preprocessing, image_shape: Sequence[int | None]) -> Preprocessing:
    """Returns `preprocessing` for images of another shape, by the rules of `preprocessing_of`."""
    height, width, channels = image_shape

    def adapted(values):
        if not isinstance(values, tuple) or channels in (None, len(values)):
            return values
        return (sum(values) / len(values),) if channels == 1 else tuple(islice(cycle(values), channels))

    return dataclasses.replace(
        preprocessing,
        image_size=(height or 224, width or 224),
        channels=channels or preprocessing.channels,
        mean=adapted(preprocessing.mean),
        std=adapted(preprocessing.std),
    )


def multiply_adds(model: "keras.Model") -> int:
    """Counts the multiply-adds of the matrix products and convolutions for one image.

    Biases, normalisation, activations, means and gates are left out, as is usual. In the papers' models they add less
    than 2 %.

    Args:
        model: A functional model for images of a static size. Its layers with weights are this package's, Keras's
            dense layers and 2-D convolutions, or have a formula in a registered `Architecture`.

    Returns:
        The number of multiply-adds; half the number of floating-point operations.

    Raises:
        ValueError: If the model has another layer with weights, or takes images of any size.

    Example:
        >>> keras_mixer.models.multiply_adds(keras_mixer.MixerB16()) / 1e9  # 12.6 billion
    """
    if any(None in images.shape[1:] for images in model.inputs):
        raise ValueError(
            f"The multiply-adds of {model.name!r} depend on the size of its images, which is not fixed. Build the "
            "model with `input_shape=(height, width, channels)`."
        )
    costs = COSTS | {name: formula for architecture in _registered for name, formula in architecture.costs.items()}
    return sum(_layer_cost(layer, costs) for layer in model.layers)


def _layer_cost(layer, costs: dict[str, Callable]) -> int:
    for kind in type(layer).__mro__:
        if kind.__name__ in costs:
            return costs[kind.__name__](layer)
    if layer.weights:
        raise ValueError(
            f"There is no formula for the layer {layer.name!r} of type {type(layer).__name__}: "
            "count its operations with the framework instead."
        )
    return 0


for _architecture in CATALOGUE:
    register(_architecture)
