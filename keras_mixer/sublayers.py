"""Finds the layers inside a layer or model, their random generators and calls, and replaces a function for a while.

Keras has no public way to find all layers or the generators. Only this file reads its private attributes for that.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def all_layers(model: "keras.layers.Layer") -> "list[keras.layers.Layer]":
    """Returns a layer or model and all layers inside it, at any depth."""
    # `Model.layers` leaves out the layers inside a layer, and other layers do not have such an attribute.
    return model._flatten_layers()


def direct_layers(layer: "keras.layers.Layer") -> "list[keras.layers.Layer]":
    """Returns the layers that a layer or model holds itself, without those inside them."""
    return layer._flatten_layers(include_self=False, recursive=False)


def seed_generators(model: "keras.layers.Layer") -> "list[keras.random.SeedGenerator]":
    """Returns the random generators of all layers of a model, such as those of dropout."""
    return [generator for layer in all_layers(model) for generator in layer._seed_generators]


def layers_on_path(model: "keras.Model", name: str) -> "list[keras.layers.Layer]":
    """Finds a layer by a name with slashes, such as "MixerBlock_3/token_mixing".

    Returns:
        The layers along the name; the last is the one that it names.

    Raises:
        ValueError: If there is no such layer; the message lists those that exist.
    """
    import keras

    if not isinstance(model, keras.Model) or not isinstance(name, str):
        raise ValueError(f"Expected a Keras model and the name of a layer, but got {model!r} and {name!r}.")
    path: list[keras.layers.Layer] = [model]
    for part in name.split("/"):
        layers = getattr(path[-1], "layers", None) or direct_layers(path[-1])
        inside = {one.name: one for one in layers}
        if part not in inside:
            raise ValueError(f"{path[-1].name!r} has no layer {part!r}; it has {', '.join(inside) or 'none'}.")
        path.append(inside[part])
    return path[1:]


_replacing = threading.RLock()


@contextlib.contextmanager
def replaced(holder, name: str, function: Callable) -> Iterator[Callable]:
    """Replaces a function of an object while the context lasts; yields the function that it had.

    Other threads keep the old function, and wait if they want to replace one as well.
    """
    thread = threading.get_ident()

    def ours_or_theirs(*arguments, **options):
        return (function if threading.get_ident() == thread else before)(*arguments, **options)

    with _replacing:
        own, before = name in vars(holder), getattr(holder, name)
        setattr(holder, name, ours_or_theirs)
        try:
            yield before
        finally:
            if own:
                setattr(holder, name, before)
            else:
                delattr(holder, name)


def call_of(layer: "keras.layers.Layer", outer: "keras.layers.Layer", arguments: tuple, options: dict):
    """Calls `outer` on symbolic tensors; returns the output of `layer` inside it and the arguments of its call."""
    calls = []

    def recording(*arguments, **options):
        calls.append((spec(*arguments, **options), arguments, options))
        return calls[-1][0]

    # A layer's own output may belong to another model. Keras asks for the output of every symbolic call here.
    with replaced(layer, "compute_output_spec", recording) as spec:
        outer.call(*arguments, **options)
    if len(calls) != 1:
        raise ValueError(f"{outer.name!r} calls its layer {layer.name!r} {len(calls)} times instead of once.")
    return calls[0]
