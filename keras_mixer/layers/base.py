"""The base classes of most layers. They derive a layer's configuration and output shape from its constructor."""

import inspect
import types

import keras

from keras_mixer.shapes import static_table


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

    A sublayer has the layer's `trainable` flag and dtype policy unless they were set on the sublayer itself. Such
    settings, LoRA and quantisation survive saving and cloning.

    Args:
        sublayers: Settings of sublayers by name, as `get_config` returns them.
    """

    def __init__(self, *, sublayers=None, **kwargs):
        super().__init__(**kwargs)
        self._recorded = types.MappingProxyType(sublayers or {})  # Keras would track a plain dict

    def _sublayer(self, make, *arguments, name: str, **settings) -> keras.layers.Layer:
        """Makes the sublayer `name` by calling `make`. Every sublayer must be made here."""
        own = {"trainable": self.trainable, "dtype": self.dtype_policy, **self._recorded.get(name, {})}
        if "quantization_config" in own:
            own["quantization_config"] = keras.saving.deserialize_keras_object(own["quantization_config"])
        return make(*arguments, name=name, **settings, **own)

    def get_config(self):
        config, sublayers = super().get_config(), dict(self._recorded)
        for layer in self._flatten_layers(include_self=False, recursive=False):
            settings = _settings(layer).items()
            sublayers[layer.name] = {key: value for key, value in settings if value not in (None, config.get(key))}
        sublayers = {name: settings for name, settings in sublayers.items() if settings}
        return {**config, "sublayers": sublayers} if sublayers else config


def _settings(layer) -> dict:
    """Returns the settings of a sublayer that its parent layer does not determine."""
    return {
        "trainable": layer.trainable,
        "dtype": keras.dtype_policies.serialize(layer.dtype_policy),
        "lora_rank": getattr(layer, "lora_rank", None),
        "lora_alpha": getattr(layer, "lora_alpha", None),
        "quantization_config": keras.saving.serialize_keras_object(getattr(layer, "quantization_config", None)),
        "sublayers": layer.get_config().get("sublayers") if isinstance(layer, CompositeLayer) else None,
    }
