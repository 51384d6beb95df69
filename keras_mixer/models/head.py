"""The end that every architecture shares: tokens, their pooled features, or class scores."""

import keras

from keras_mixer.layers.helpers import positive_integer

# Channels lie last whatever `keras.config.image_data_format` says, here as in every layer that would ask it.
_LAST = {"data_format": "channels_last", "name": "pre_logits"}

# By the rank of what is pooled: tokens, or a feature map that keeps the image's two axes.
_POOLING = {
    3: {"avg": keras.layers.GlobalAveragePooling1D, "max": keras.layers.GlobalMaxPooling1D},
    4: {"avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D},
}


def classifier(
    inputs, tokens, include_top: bool, classes: int, classifier_activation, pooling: str | None, name: str
) -> keras.Model:
    """Ends a model in class scores, pooled features or the tokens themselves.

    Args:
        inputs: Inputs of the model, as from `image_input`.
        tokens: Normalised tokens, `(batch, tokens, channels)`, or a feature map `(batch, rows, columns, channels)`.
        include_top: Whether to end in class scores: the mean over tokens and a linear head that starts at zero.
        classes: Classes of the head.
        classifier_activation: Activation of the head; None for logits.
        pooling: Without the head: None, "avg" or "max".
        name: Name of the model.

    Returns:
        A model that gives scores `(batch, classes)`, features `(batch, channels)` or the tokens.

    Raises:
        ValueError: If `pooling` is unknown or `classes` is not positive.
    """
    poolings = _POOLING[len(tokens.shape)]
    if pooling is not None and pooling not in poolings:
        raise ValueError(f"`pooling` must be None, 'avg' or 'max', but got {pooling!r}.")
    if include_top:
        outputs = _scores(poolings["avg"](**_LAST)(tokens), classes, classifier_activation)
    else:
        outputs = tokens if pooling is None else poolings[pooling](**_LAST)(tokens)
    return keras.Model(inputs, outputs, name=name)


def _scores(features, classes: int, activation):
    # Scores and the loss on them need float32 even when the body computes in half precision.
    at_least_float32 = keras.backend.result_type(features.dtype, "float32")
    return keras.layers.Dense(
        positive_integer("classes", classes),
        activation=activation,
        kernel_initializer="zeros",
        dtype=at_least_float32,
        name="head",
    )(features)
