"""The class of this package's models, and a function that exposes their inner features."""

import itertools
import json

import keras

from keras_mixer import fields
from keras_mixer.layers.patches import ImageReader
from keras_mixer.preprocessing import Preprocessing
from keras_mixer.sublayers import call_of, layers_on_path

_CLONED = "_keras_mixer_preprocessing"  # attribute of an output of a clone


@keras.saving.register_keras_serializable(package="keras_mixer")
class ImageModel(keras.Model):
    """A functional model of images with an attribute `preprocessing`, which copies and saved files keep.

    The layer that reads the images holds the attribute if it is one of this package's, such as `PatchEmbedding`;
    otherwise the model does. The model has the dtype policy of its first layer with weights, or "mixed_float16" if any
    of them has that, so that `compile` scales the loss.
    """

    _preprocessing: Preprocessing | None = None

    def __init__(self, inputs, outputs, name=None, **kwargs):  # the arguments of functional models, which Keras checks
        preprocessing = kwargs.pop("preprocessing", None)
        super().__init__(inputs, outputs, name=name, **kwargs)
        if preprocessing is not None:
            self._preprocessing = fields.read(Preprocessing, preprocessing)
        else:
            self._preprocessing = getattr(keras.tree.flatten(outputs)[0], _CLONED, None)
        policies = [layer.dtype_policy for layer in self.layers if layer.weights]
        policies = [policy for policy in policies if policy.quantization_mode is None]
        if policies:
            self.dtype_policy = max(policies, key=lambda policy: policy.name == "mixed_float16")  # the first of equals

    def _run_through_graph(self, *arguments, **options):
        outputs = super()._run_through_graph(*arguments, **options)
        # Private, because `keras.models.clone_model` makes the clone from its inputs, outputs and name alone. It calls
        # this function for the outputs, and is the only caller that passes both functions.
        if {"operation_fn", "call_fn"} <= options.keys():
            setattr(keras.tree.flatten(outputs)[0], _CLONED, self._preprocessing)
        return outputs

    def _keeper(self) -> keras.layers.Layer:
        """Returns the layer that holds the preprocessing, or else the model itself."""
        return next((layer for layer in self.layers if isinstance(layer, ImageReader)), self)

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


def feature_model(model: keras.Model, name: str) -> keras.Model:
    """Returns a model that outputs the features of one layer, which may lie inside another layer or model.

    Args:
        model: A functional model, or a `keras.Sequential` that is built.
        name: Name of the layer. Slashes separate a layer or model from the layers inside it. For example,
            "MixerBlock_3/token_mixing" is the output of token mixing before it is added to the block's input, and
            "mixer_b16/MixerBlock_3" is a block of a Mixer in a larger model.

    Returns:
        A functional model that shares its layers with `model`, and has its `preprocessing`.

    Raises:
        ValueError: If there is no such layer, `model` calls it several times, or `model` has no inputs yet.

    Example:
        >>> keras_mixer.feature_model(keras_mixer.MixerB16(), "MixerBlock_3/token_mixing").output_shape
        (None, 196, 768)
    """
    path = layers_on_path(model, name)
    if not getattr(model, "inputs", None):
        raise ValueError(
            f"Expected a functional model or a built `keras.Sequential`, but {model.name!r} has no inputs: give a "
            "Sequential a `keras.Input` first."
        )
    inputs = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    output, arguments = inputs, (inputs,)
    options: dict = {}
    for outer, layer in itertools.pairwise([model, *path]):
        if isinstance(layer, keras.layers.InputLayer):
            output = layer.output
        else:
            output, arguments, options = call_of(layer, outer, arguments, options)
    # Around another model, other layers may scale the images for it.
    reads = isinstance(model, ImageModel) or any(isinstance(layer, ImageReader) for layer in model.layers)
    features = (ImageModel if reads else keras.Model)(inputs, output, name=f"{model.name}_features")
    if isinstance(model, ImageModel):
        features.preprocessing = model.preprocessing
    return features
