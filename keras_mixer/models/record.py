"""Records that describe an architecture. Keras is imported only when a model is built."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

from keras_mixer.preprocessing import Preprocessing


@dataclasses.dataclass(frozen=True)
class WeightSet:
    """One file of weights, published or part of this package.

    Attributes:
        variant: Name of the variant, such as "mixer_b16".
        name: Name of the set, such as "imagenet21k".
        url: Where the file is published, https; None for a file that comes with this package.
        classes: Classes of its head.
        source: Who published it, and what it was trained on.
        licence: SPDX name of the licence, or where to read about it.
        preprocessing: The preprocessing that the weights expect.
        note: What a user should know before relying on the weights.
        class_names: Names of the classes, unless they are those of ImageNet.
    """

    variant: str
    name: str
    url: str | None
    classes: int
    source: str
    licence: str
    preprocessing: Preprocessing = dataclasses.field(default_factory=Preprocessing)
    note: str = ""
    class_names: tuple[str, ...] = ()

    @property
    def file_name(self) -> str:
        """Name of the file in the cache. It is unique, unlike the published names of the files."""
        suffix = ".npz" if self.url is None else self.url[self.url.rindex(".") :]
        return f"{self.variant}-{self.name}{suffix}"


@dataclasses.dataclass(frozen=True)
class Variant:
    """One size of an architecture.

    Attributes:
        name: Name of the variant and of its models, such as "mixer_b16".
        constructor: Name of its constructor, such as "MixerB16".
        title: Name in its paper, such as "Mixer-B/16".
        sizes: A frozen dataclass whose fields are arguments of the architecture's builder.
        preprocessing: The preprocessing that its published weights expect, if it differs from the architecture's.
    """

    name: str
    constructor: str
    title: str
    sizes: Any
    preprocessing: Preprocessing | None = None


def from_torch(array):
    """Returns the kernel of a dense layer or convolution with its axes in Keras's order, and other arrays unchanged."""
    orders: dict[int, tuple[int, ...]] = {2: (1, 0), 4: (2, 3, 1, 0)}
    rank = len(array.shape)
    return array.transposed(*orders[rank]) if rank in orders else array


@dataclasses.dataclass(frozen=True)
class Rule:
    """Renames one kind of key.

    Attributes:
        pattern: Regular expression that matches the whole key.
        name: Template of the official name, as for `re.Match.expand`. Parts that are PyTorch's names, such as "fc1",
            "weight" or "running_mean", are then replaced by this package's or Keras's names.
        change: Turns the stored array into the weight, before its values are read. An array has a `shape` and the
            methods `transposed(*axes)` and `reshaped(*shape)`.
    """

    pattern: str
    name: str
    change: Callable[[Any], Any] = from_torch


# Names in PyTorch and in ResMLP. "weight" becomes "kernel" or, in a normalisation, "scale".
_LEAVES = {"alpha": "scale", "beta": "bias", "running_mean": "moving_mean", "running_var": "moving_variance"}
_LAYERS = {"fc1": "Dense_0", "fc2": "Dense_1"}


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a foreign checkpoint names the weights of an architecture.

    Attributes:
        signature: Pattern of a key that occurs in this layout alone.
        rules: The first rule that matches a key renames it. If none matches, the key keeps its name and the loader
            reports it.
        prepare: Function that takes and returns the arrays by key, called before the rules apply.
    """

    signature: str
    rules: tuple[Rule, ...]
    prepare: Callable[[dict[str, Any]], dict[str, Any]] = dict

    def official(self, key: str, array):
        """Returns the official name of a key, and its array in the layout of that weight."""
        for rule in self.rules:
            if match := re.fullmatch(rule.pattern, key):
                *layers, leaf = match.expand(rule.name).split("/")
                if leaf == "weight":
                    leaf = "kernel" if len(array.shape) > 1 else "scale"
                names = [*(_LAYERS.get(layer, layer) for layer in layers), _LEAVES.get(leaf, leaf)]
                return "/".join(names), rule.change(array)
        return key, array


@dataclasses.dataclass(frozen=True)
class Architecture:
    """An architecture.

    Attributes:
        name: Its name, such as "mixer".
        builder: Builds a model from sizes and the arguments that all builders share, see `keras_mixer.Mixer`.
        variants: Its sizes.
        preprocessing: The preprocessing that published weights expect; random weights get the same.
        published: Weights that can be loaded by name.
        layouts: The names of weights in foreign checkpoints.
        costs: Maps the class name of a layer to a function that takes such a layer, after it was called, and returns
            its multiply-adds per image.
        token_kernel: Name of a layer whose kernel has the shape (tokens, hidden units of the token MLPs). Constructors
            then read both sizes from a checkpoint, and the builder must take the argument `tokens_mlp_dim`.
    """

    name: str
    builder: Callable[..., Any]
    variants: tuple[Variant, ...]
    preprocessing: Preprocessing = dataclasses.field(default_factory=Preprocessing)
    published: tuple[WeightSet, ...] = ()
    layouts: tuple[Layout, ...] = ()
    costs: Mapping[str, Callable[[Any], int]] = dataclasses.field(default_factory=dict)
    token_kernel: str | None = None
