"""Finds the layers inside layers and models and how they are called, and replaces a function of one for a while."""

import contextlib
import threading
from collections.abc import Callable, Iterator

import keras

from keras_mixer.sublayers import direct_layers


def layers_on_path(model: keras.Model, name: str) -> list[keras.layers.Layer]:
    """Finds a layer by a name with slashes, such as "MixerBlock_3/token_mixing".

    Returns:
        The layers along the name; the last is the one that it names.

    Raises:
        ValueError: If there is no such layer; the message lists those that exist.
    """
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


def call_of(layer: keras.layers.Layer, outer: keras.layers.Layer, arguments: tuple, options: dict):
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
