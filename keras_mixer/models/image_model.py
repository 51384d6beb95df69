"""The class of all models of this package, and models of their inner features."""

import keras

from keras_mixer.layers.patches import ImageReader
from keras_mixer.preprocessing import Preprocessing


@keras.saving.register_keras_serializable(package="keras_mixer")
class ImageModel(keras.Model):
    """A functional model of images that knows how they are prepared; copies and saved files know it as well."""

    _preprocessing: Preprocessing | None = None

    def _keeper(self) -> keras.layers.Layer:
        """Returns the layer that keeps the preprocessing; the model itself, whose copies lose it, if none does."""
        return next((layer for layer in self.layers if isinstance(layer, ImageReader)), self)

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How the weights want their images, for `keras_mixer.preprocess_input`; None if nobody said it."""
        return self._keeper()._preprocessing

    @preprocessing.setter
    def preprocessing(self, value: Preprocessing | None) -> None:
        self._keeper()._preprocessing = value


def feature_model(model: keras.Model, name: str) -> ImageModel:
    """Returns a model of the same images and weights that gives the output of a layer, or of a layer inside one.

    Args:
        model: A functional model.
        name: Name of a layer; after slashes, the names of layers inside it. "MixerBlock_3/token_mixing" is the branch
            of token mixing before it is added to its input.

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
    return ImageModel(model.input, layer.output, name=f"{model.name}_features")
