"""The class of this package's models, and a function that exposes their inner features."""

import json

import keras

from keras_mixer import fields
from keras_mixer.layers.patches import ImageReader
from keras_mixer.preprocessing import Preprocessing


@keras.saving.register_keras_serializable(package="keras_mixer")
class ImageModel(keras.Model):
    """A functional model of images with an attribute `preprocessing`, which copies and saved files keep.

    `keras.models.clone_model` keeps it only if the first layer is one of this package's, such as `PatchEmbedding`. The
    model has the dtype policy of its first layer with weights, so that `compile` scales the loss of float16 models.
    """

    _preprocessing: Preprocessing | None = None

    def __init__(self, inputs, outputs, name=None, **kwargs):  # the arguments of functional models, which Keras checks
        preprocessing = kwargs.pop("preprocessing", None)
        super().__init__(inputs, outputs, name=name, **kwargs)
        if preprocessing is not None:
            self._preprocessing = fields.read(Preprocessing, preprocessing)
        policies = [layer.dtype_policy for layer in self.layers if layer.weights]
        if policies and policies[0].quantization_mode is None:
            self.dtype_policy = policies[0]

    def _keeper(self) -> keras.layers.Layer:
        """Returns the layer that holds the preprocessing, or else the model itself."""
        for layer in self.layers:
            if isinstance(layer, ImageReader):
                return layer
            if isinstance(layer, ImageModel):
                return layer._keeper()
        return self

    def get_config(self):
        config = super().get_config()
        if self._preprocessing is not None:
            config["preprocessing"] = json.loads(self._preprocessing.to_json())
        return config

    @property
    def preprocessing(self) -> Preprocessing | None:
        """The preprocessing that the weights expect, for `keras_mixer.preprocess_input`; None if it is unknown."""
        return self._keeper()._preprocessing

    @preprocessing.setter
    def preprocessing(self, value: Preprocessing | None) -> None:
        if not isinstance(value, Preprocessing | None):
            raise ValueError(f"`preprocessing` must be a `keras_mixer.data.Preprocessing` or None, but got {value!r}.")
        self._keeper()._preprocessing = value


# A .h5 file records the outermost model by the bare name of its class.
keras.saving.get_custom_objects()["ImageModel"] = ImageModel


def feature_model(model: keras.Model, name: str) -> ImageModel:
    """Returns a model that outputs the features of one layer, which may lie inside another layer.

    Args:
        model: A functional model.
        name: Name of the layer. Slashes separate a layer from the layers inside it: "MixerBlock_3/token_mixing" is the
            output of token mixing before it is added to the block's input.

    Returns:
        A functional model that shares its layers with `model`.

    Raises:
        ValueError: If there is no such layer, or it is inside another model.

    Example:
        >>> keras_mixer.feature_model(keras_mixer.MixerB16(), "MixerBlock_3/token_mixing").output_shape
        (None, 196, 768)
    """
    layer, layers = model, model.layers
    for part in name.split("/"):
        if layer is not model:
            if isinstance(layer, keras.Model):
                raise ValueError(
                    f"{layer.name!r} is a model itself: call `feature_model` on it, with the rest of the name."
                )
            layer.call(layer.input)  # on symbolic tensors, so that the layers inside have outputs
            layers = layer._flatten_layers(include_self=False, recursive=False)
        inside = {one.name: one for one in layers}
        if part not in inside:
            raise ValueError(f"{layer.name!r} has no layer {part!r}; it has {', '.join(inside) or 'none'}.")
        layer = inside[part]
    features = ImageModel(model.input, layer.output, name=f"{model.name}_features")
    if features.preprocessing is None:
        features.preprocessing = getattr(model, "preprocessing", None)
    return features
