"""What a model costs by formula: multiply-adds of one image, layer by layer."""

import functools
import math

import keras

from keras_mixer.layers import (
    Affine,
    ChannelMLP,
    CycleFC,
    MixerBlock,
    PatchEmbedding,
    SpatialGatingUnit,
    TokenLinear,
    WeightedPermuteMLP,
)
from keras_mixer.layers.feature_maps import ReweightedMixing

# Linear in the size of the table of tokens, as everything that is no product of matrices.
_LEFT_OUT = (
    keras.layers.LayerNormalization,
    keras.layers.BatchNormalization,
    keras.layers.Normalization,
    Affine,
)


def multiply_adds(model: keras.Model) -> int:
    """Counts the multiply-adds of the matrix products and convolutions for one image.

    Additions of biases, normalisation, activations, means and gates are left out, as the field leaves them out: they
    are linear in the size of the table of tokens, and below a fiftieth of the products in the models of the papers.

    Args:
        model: A functional model of this package's layers, and of Keras's dense layers and 2-D convolutions, for
            images of a static size.

    Returns:
        The number of multiply-adds; half the number of floating-point operations.

    Raises:
        ValueError: If the model has a layer with weights of another kind, or takes images of any size.

    Example:
        >>> keras_mixer.models.multiply_adds(keras_mixer.MixerB16()) / 1e9  # 12.6 billion
    """
    if any(None in images.shape[1:] for images in model.inputs):
        raise ValueError(
            f"The multiply-adds of {model.name!r} depend on the size of its images, which is open: build it with "
            "`input_shape=(height, width, channels)`."
        )
    return sum(_of_layer(layer) for layer in model.layers)


@functools.singledispatch
def _of_layer(layer: keras.layers.Layer) -> int:
    if layer.weights and not isinstance(layer, _LEFT_OUT):
        raise ValueError(
            f"There is no formula for the layer {layer.name!r} of type {type(layer).__name__}: "
            "count its operations with the framework instead."
        )
    return 0


@_of_layer.register
def _(layer: keras.layers.Dense | keras.layers.Conv2D | keras.layers.DepthwiseConv2D | CycleFC) -> int:
    return _places(layer) * math.prod(layer.kernel.shape)


@_of_layer.register
def _(layer: PatchEmbedding) -> int:
    return math.prod(layer.grid) * math.prod(layer.kernel.shape)


@_of_layer.register
def _(layer: MixerBlock) -> int:
    _, tokens, channels = layer.input.shape
    _, tokens_out, _ = layer.output.shape
    groups = layer.channel_groups
    # Columns of S * G values each; without groups, C columns of S values.
    token_mlp = (channels // groups) * groups * (tokens + tokens_out) * layer.tokens_mlp_dim
    views = tokens * channels * channels if layer.grouping == "project" else 0
    shortcut = tokens * tokens_out * channels if tokens_out != tokens else 0
    channel_mlp = 2 * tokens_out * channels * layer.channels_mlp_dim
    return token_mlp + views + shortcut + channel_mlp


@_of_layer.register
def _(layer: TokenLinear | SpatialGatingUnit) -> int:
    _, tokens, channels = layer.output.shape
    return tokens * tokens * channels


@_of_layer.register
def _(layer: ChannelMLP) -> int:
    return _places(layer) * layer.mlp_dim * (layer.input.shape[-1] + layer.output.shape[-1])


@_of_layer.register
def _(layer: ReweightedMixing) -> int:
    channels = layer.output.shape[-1]
    # Each value is a sum over the channels of its place or, in a Vision Permutator, over a line of its segment.
    heights, widths = channels, channels
    if isinstance(layer, WeightedPermuteMLP):
        _, rows, columns, _ = layer.output.shape
        heights, widths = rows * channels // layer.segment_dim, columns * channels // layer.segment_dim
    reweight = layer.reweight.mlp_dim * (channels + 3 * channels)  # once for the whole image
    return _places(layer) * channels * (heights + widths + 2 * channels) + reweight


def _places(layer: keras.layers.Layer) -> int:
    """Tokens, or places of a feature map, that a layer puts out."""
    return math.prod(layer.output.shape[1:-1])
