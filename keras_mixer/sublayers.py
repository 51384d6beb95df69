"""Finds the layers inside a layer or model, and their random generators.

Keras has no public way to do either, so these functions are the only place that reads its private attributes.
"""

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
