"""The base classes of most layers. They derive a layer's configuration and output shape from its constructor."""

import inspect
import types

import keras

from keras_mixer.shapes import static_table
from keras_mixer.sublayers import direct_layers


class PlainLayer(keras.layers.Layer):
    """A layer whose output has the shape of its input. `get_config` returns the arguments kept as attributes."""

    def compute_output_shape(self, input_shape):
        return input_shape

    def _fix(self, input_shape) -> None:
        """Makes the layer refuse inputs of other sizes, which its reshapes would take for a longer batch."""
        self.input_spec = keras.InputSpec(shape=(None, *input_shape[1:]))

    def _fixed_table(self, input_shape) -> tuple:
        """Returns the shape of a table of tokens by channels, and refuses others as `_fix` does."""
        self._fix(static_table(type(self).__name__, input_shape))
        return tuple(input_shape)

    def get_config(self):
        constructors = [kind.__init__ for kind in type(self).__mro__ if issubclass(kind, PlainLayer)]
        arguments = [one for init in constructors for one in list(inspect.signature(init).parameters.values())[1:]]
        names = {one.name for one in arguments if one.kind is one.POSITIONAL_OR_KEYWORD}
        return {**super().get_config(), **{name: getattr(self, name) for name in sorted(names) if hasattr(self, name)}}


class CompositeLayer(PlainLayer):
    """A layer made of sublayers. Its configuration records the settings in which they differ from it.

    A sublayer has the layer's `trainable` flag and dtype policy and the settings that the layer gave it, unless they
    were changed on the sublayer itself. Such changes, LoRA and quantisation survive saving and cloning.

    Args:
        sublayers: Changed settings of sublayers by name, as `get_config` returns them.
    """

    def __init__(self, *, sublayers=None, **kwargs):
        super().__init__(**kwargs)
        self._recorded = types.MappingProxyType(sublayers or {})  # Keras would track a plain dict

    def _sublayer(self, make, *arguments, name: str, **settings) -> keras.layers.Layer:
        """Makes the sublayer `name` by calling `make`. Every sublayer must be made here."""
        # Keras's Identity cannot return a policy object in its configuration.
        dtype = keras.dtype_policies.serialize(self.dtype_policy)
        layer = make(*arguments, name=name, trainable=self.trainable, dtype=dtype, **settings)
        made = types.MappingProxyType(_unshared(layer.get_config()))
        if name in self._recorded:
            layer = type(layer).from_config({**made, **self._recorded[name]})
        layer._made = made
        return layer

    def get_config(self):
        config, sublayers = super().get_config(), dict(self._recorded)
        for layer in direct_layers(self):
            if made := getattr(layer, "_made", None):
                expected = {**made, "trainable": config["trainable"], "dtype": config["dtype"]}
                dtype = keras.dtype_policies.serialize(layer.dtype_policy)
                settings = {**_unshared(layer.get_config()), "trainable": layer.trainable, "dtype": dtype}
                sublayers[layer.name] = {name: value for name, value in settings.items() if value != expected.get(name)}
        sublayers = {name: settings for name, settings in sublayers.items() if settings}
        return {**config, "sublayers": sublayers} if sublayers else config


def _unshared(config):
    """Returns a configuration without the numbers that Keras gives to objects while it saves or copies a model."""
    if isinstance(config, dict):
        return {name: _unshared(value) for name, value in config.items() if name != "shared_object_id"}
    return [_unshared(value) for value in config] if isinstance(config, list) else config
