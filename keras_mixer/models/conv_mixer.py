"""ConvMixer (Trockman and Kolter, 2022, arXiv 2201.09792)."""

import dataclasses
from typing import TYPE_CHECKING

from keras_mixer.models.parts import (
    HEAD,
    IMAGENET,
    classifier,
    convolution,
    image_input,
    linear_rates,
    residual,
    with_dtype,
)
from keras_mixer.models.record import Architecture, Layout, Rule, Variant
from keras_mixer.shapes import positive_integer, rate_below_one

if TYPE_CHECKING:
    import keras

_BATCH_NORM = {"epsilon": 1e-5, "momentum": 0.9}  # of the published weights; Keras's defaults are 1e-3 and 0.99


def _activated(features, activation, name: str):
    """Applies the activation and then BatchNorm, in the order of the paper."""
    import keras

    features = keras.layers.Activation(activation, name=f"{name}_activation")(features)
    return keras.layers.BatchNormalization(**_BATCH_NORM, name=f"{name}_norm")(features)


def _block(features, kernel_size: int, activation, rate: float, dropout: float, name: str):
    """Applies one layer (equations 2 and 3): a residual depthwise convolution, then a pointwise one."""
    import keras

    # Keras counts all channels as the fan-in of a depthwise kernel, but each sum runs over one channel.
    reach = keras.initializers.RandomUniform(-1 / kernel_size, 1 / kernel_size)
    branch = keras.layers.DepthwiseConv2D(
        kernel_size,
        padding="same",
        data_format="channels_last",
        depthwise_initializer=reach,
        name=f"{name}_depthwise",
    )(features)
    branch = _activated(branch, activation, f"{name}_depthwise")
    features = residual(features, branch, rate, name)
    features = convolution(features.shape[-1], 1, 1, f"{name}_pointwise")(features)
    features = _activated(features, activation, f"{name}_pointwise")
    return keras.layers.Dropout(dropout, name=f"{name}_dropout")(features) if dropout else features


@with_dtype
def ConvMixer(  # noqa: D417, N802 - a model constructor is named like a class, as in keras.applications
    *,
    hidden_dim: int,
    num_blocks: int,
    kernel_size: int,
    patch_size: int,
    activation="gelu",
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    input_tensor=None,
    include_top: bool = True,
    classes: int = 1000,
    classifier_activation="softmax",
    pooling: str | None = None,
    stochastic_depth: float = 0.0,
    dropout: float = 0.0,
    name: str = "conv_mixer",
) -> "keras.Model":
    """Builds a ConvMixer with random weights; `keras_mixer.ConvMixer768x32` and others build the published sizes.

    A depthwise convolution with a large kernel mixes positions, and a pointwise convolution mixes channels. The weights
    do not depend on the size of the image, so the model takes images of any size.

    Args:
        hidden_dim: Channels, h in the paper.
        num_blocks: Number of layers, d in the paper.
        kernel_size: Pixels of the depthwise kernel, k in the paper.
        patch_size: Pixels of a patch, p in the paper.
        activation: "gelu" for the erf form of GELU, or any other activation of Keras.
        input_shape: Image shape (height, width, channels); None for a side of any length.
        pooling: Without the head: None for the feature map, "avg" or "max" for its mean or maximum.
        dropout: Dropout rate after each block, in [0, 1).
        input_tensor, include_top, classes, classifier_activation, stochastic_depth, dtype, name: As in
            `keras_mixer.Mixer`.

    Returns:
        A `keras.Model` like that of `keras_mixer.Mixer`, with a feature map `(batch, rows, columns, hidden_dim)`
        instead of tokens. The published weights expect images normalised by ImageNet's mean and standard deviation. The
        model ignores pixels beyond the last whole patch.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> model = keras_mixer.ConvMixer(hidden_dim=32, num_blocks=2, kernel_size=5, patch_size=4, classes=10)
        >>> model(keras.ops.zeros((1, 32, 48, 3))).shape
        (1, 10)
    """
    import keras

    from keras_mixer.layers.channel_mlp import gelu_erf

    num_blocks = positive_integer("num_blocks", num_blocks)
    kernel_size = positive_integer("kernel_size", kernel_size)
    rates = linear_rates(num_blocks, stochastic_depth)
    dropout = rate_below_one("dropout", dropout)
    activation = gelu_erf if activation == "gelu" else keras.activations.get(activation)

    images, inputs = image_input(input_shape, input_tensor)
    patch_size = positive_integer("patch_size", patch_size)
    features = convolution(positive_integer("hidden_dim", hidden_dim), patch_size, patch_size, "stem")(images)
    features = _activated(features, activation, "stem")
    for index in range(num_blocks):
        features = _block(features, kernel_size, activation, rates[index], dropout, f"block_{index}")
    return classifier(inputs, features, include_top, classes, classifier_activation, pooling, name)


@dataclasses.dataclass(frozen=True)
class ConvMixerVariant:
    """The size of a ConvMixer, in the terms of table 1 of the paper."""

    hidden_dim: int
    num_blocks: int
    kernel_size: int
    patch_size: int
    activation: str = "gelu"


# Table 1 of the paper and the authors' code.
_ROWS = (
    Variant("conv_mixer_1536_20", "ConvMixer1536x20", "ConvMixer-1536/20", ConvMixerVariant(1536, 20, 9, 7)),
    Variant("conv_mixer_768_32", "ConvMixer768x32", "ConvMixer-768/32", ConvMixerVariant(768, 32, 7, 7, "relu")),
    Variant("conv_mixer_1024_20", "ConvMixer1024x20", "ConvMixer-1024/20", ConvMixerVariant(1024, 20, 9, 14)),
)
CONV_MIXER_VARIANTS: dict[str, ConvMixerVariant] = {row.name: row.sizes for row in _ROWS}


def _depthwise(array):
    """Returns a weight (channels, 1, height, width) as (height, width, channels, 1), and a bias unchanged."""
    return array.transposed(2, 3, 0, 1) if len(array.shape) == 4 else array


def _without_counters(arrays: dict) -> dict:
    """Leaves out the batch counters of PyTorch's BatchNorm."""
    return {key: array for key, array in arrays.items() if not key.endswith(".num_batches_tracked")}


_TIMM = Layout(
    r"blocks\.\d{1,4}\.0\.fn\.0\.weight",
    (
        Rule(r"stem\.0\.(\w+)", r"stem/\1"),
        Rule(r"stem\.2\.(\w+)", r"stem_norm/\1"),
        Rule(r"blocks\.(\d{1,4})\.0\.fn\.0\.(\w+)", r"block_\1_depthwise/\2", _depthwise),
        Rule(r"blocks\.(\d{1,4})\.0\.fn\.2\.(\w+)", r"block_\1_depthwise_norm/\2"),
        Rule(r"blocks\.(\d{1,4})\.1\.(\w+)", r"block_\1_pointwise/\2"),
        Rule(r"blocks\.(\d{1,4})\.3\.(\w+)", r"block_\1_pointwise_norm/\2"),
        HEAD,
    ),
    _without_counters,
)

ARCHITECTURE = Architecture(
    name="conv_mixer",
    builder=ConvMixer,
    variants=_ROWS,
    preprocessing=dataclasses.replace(IMAGENET, crop_share=0.96),  # as in timm
    layouts=(_TIMM,),
)
