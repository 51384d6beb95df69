"""A whole architecture in one file, which no line of the package knows."""

import contextlib
import dataclasses

import keras

import keras_mixer
from keras_mixer import models
from keras_mixer.models import catalogue
from keras_mixer.models.parts import classifier, image_input
from keras_mixer.preprocessing import Preprocessing


@keras.saving.register_keras_serializable(package="toy")
class Gate(keras.layers.Layer):
    """Multiplies each token by a learned map of the mean token."""

    def build(self, input_shape):
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1],) * 2)

    def call(self, tokens):
        return tokens * (keras.ops.mean(tokens, axis=1, keepdims=True) @ self.kernel)


def Toy(  # noqa: N802 - named like a class, as all builders are
    *,
    hidden_dim,
    patch_size,
    input_shape=(16, 16, 3),
    input_tensor=None,
    include_top=True,
    classes=1000,
    classifier_activation="softmax",
    pooling=None,
    stochastic_depth=0.0,
    dropout=0.0,
    name="toy",
):
    images, inputs = image_input(input_shape, input_tensor)
    tokens = keras_mixer.layers.PatchEmbedding(hidden_dim, patch_size, name="stem")(images)
    tokens = Gate(name="gate")(tokens)
    return classifier(inputs, tokens, include_top, classes, classifier_activation, pooling, name)


@dataclasses.dataclass(frozen=True)
class ToyVariant:
    hidden_dim: int
    patch_size: int


ARCHITECTURE = models.Architecture(
    name="toy",
    builder=Toy,
    variants=(models.Variant("toy_s", "ToyS", "Toy-S", ToyVariant(8, 4)),),
    preprocessing=Preprocessing(mean=(0.1, 0.2, 0.3), std=1.0),
    layouts=(
        models.Layout(
            r"cut\.weight",
            (
                models.Rule(r"cut\.(\w+)", r"stem/\1"),
                models.Rule(r"gate\.map", "gate/kernel"),
                models.Rule(r"head\.(\w+)", r"head/\1"),
            ),
        ),
    ),
    costs={"Gate": lambda layer: layer.kernel.shape[0] * layer.kernel.shape[1]},
)


@contextlib.contextmanager
def registered(architecture=ARCHITECTURE):
    models.register(architecture)
    try:
        yield
    finally:
        catalogue._registered.remove(architecture)
