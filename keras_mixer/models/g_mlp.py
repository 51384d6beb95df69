"""gMLP (Liu et al., 2021, arXiv 2105.08050)."""

import dataclasses
from typing import TYPE_CHECKING

from keras_mixer.models.parts import (
    HEAD,
    LAST_NORM,
    SCALED,
    classifier,
    image_input,
    linear_rates,
    residual,
    token_map_cost,
    with_dtype,
)
from keras_mixer.models.record import Architecture, Layout, Rule, Variant
from keras_mixer.shapes import positive_integer, rate_below_one

if TYPE_CHECKING:
    import keras


def _block(tokens, mlp_dim: int, rate: float, dropout: float, name: str):
    """Applies one layer (equation 1): `Z = gelu(LN(X) U)`, `Y = X + s(Z) V` with the spatial gating unit s."""
    import keras

    from keras_mixer import layers
    from keras_mixer.layers.channel_mlp import gelu_erf

    branch = layers.LayerNorm(name=f"{name}_norm")(tokens)
    branch = layers.ChannelDense(mlp_dim, activation=gelu_erf, name=f"{name}_dense_0")(branch)
    branch = keras.layers.Dropout(dropout, name=f"{name}_dropout_0")(branch)
    branch = layers.SpatialGatingUnit(name=f"{name}_gate")(branch)  # halves the channels
    branch = layers.ChannelDense(tokens.shape[-1], name=f"{name}_dense_1")(branch)
    branch = keras.layers.Dropout(dropout, name=f"{name}_dropout_1")(branch)
    return residual(tokens, branch, rate, name)


@with_dtype
def GMLP(  # noqa: D417, N802 - a model constructor is named like a class, as in keras.applications
    *,
    num_blocks: int,
    patch_size: int | tuple[int, int],
    hidden_dim: int,
    mlp_ratio: float = 6,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    input_tensor=None,
    include_top: bool = True,
    classes: int = 1000,
    classifier_activation="softmax",
    pooling: str | None = None,
    stochastic_depth: float = 0.0,
    dropout: float = 0.0,
    name: str = "g_mlp",
) -> "keras.Model":
    """Builds a gMLP with random weights; `keras_mixer.GMLPS` and others build the published sizes.

    Each block is one channel MLP with a spatial gating unit inside: half of the hidden units are mixed across tokens
    and multiply the other half. The gates start at 1, so that a new block is a plain MLP.

    Args:
        num_blocks: Number of layers.
        patch_size: Pixels of a patch, an integer or a pair (height, width).
        hidden_dim: Channels of a token.
        mlp_ratio: Hidden units before the gating, divided by the channels; `hidden_dim * mlp_ratio` must be even.
        input_shape: Image shape (height, width, channels), each side a multiple of the patch.
        pooling: Without the head: None for the tokens, "avg" or "max" for their mean or maximum.
        dropout: Dropout rate after the activation and after the second projection, in [0, 1).
        input_tensor, include_top, classes, classifier_activation, stochastic_depth, dtype, name: As in
            `keras_mixer.Mixer`.

    Returns:
        A `keras.Model` like that of `keras_mixer.Mixer`.

    Raises:
        ValueError: If an argument is out of range or the patch does not divide the image.

    Example:
        >>> model = keras_mixer.GMLP(
        ...     num_blocks=2, patch_size=4, hidden_dim=32, input_shape=(32, 32, 3), classes=10)
        >>> model(keras.ops.zeros((1, 32, 32, 3))).shape
        (1, 10)
    """
    from keras_mixer import layers

    num_blocks = positive_integer("num_blocks", num_blocks)
    rates = linear_rates(num_blocks, stochastic_depth)
    dropout = rate_below_one("dropout", dropout)

    images, inputs = image_input(input_shape, input_tensor)
    tokens = layers.PatchEmbedding(hidden_dim, patch_size, name="stem")(images)  # (batch, tokens, hidden_dim)
    for index in range(num_blocks):
        tokens = _block(tokens, int(hidden_dim * mlp_ratio), rates[index], dropout, f"block_{index}")
    tokens = layers.LayerNorm(name="pre_head_layer_norm")(tokens)
    return classifier(inputs, tokens, include_top, classes, classifier_activation, pooling, name)


@dataclasses.dataclass(frozen=True)
class GMLPVariant:
    """The size of a gMLP, in the terms of table 1 of the paper."""

    num_blocks: int
    patch_size: int
    hidden_dim: int
    mlp_ratio: float = 6


_ROWS = (
    Variant("g_mlp_ti", "GMLPTi", "gMLP-Ti", GMLPVariant(30, 16, 128)),
    Variant("g_mlp_s", "GMLPS", "gMLP-S", GMLPVariant(30, 16, 256)),
    Variant("g_mlp_b", "GMLPB", "gMLP-B", GMLPVariant(30, 16, 512)),
)
G_MLP_VARIANTS: dict[str, GMLPVariant] = {row.name: row.sizes for row in _ROWS}

_TIMM = Layout(
    r"blocks\.\d{1,4}\.mlp_channels\.gate\.proj\.weight",
    (
        Rule(r"stem\.proj\.(\w+)", r"stem/\1"),
        Rule(r"blocks\.(\d{1,4})\.norm\.(\w+)", r"block_\1_norm/\2"),
        Rule(r"blocks\.(\d{1,4})\.mlp_channels\.fc1\.(\w+)", r"block_\1_dense_0/\2"),
        Rule(r"blocks\.(\d{1,4})\.mlp_channels\.fc2\.(\w+)", r"block_\1_dense_1/\2"),
        Rule(r"blocks\.(\d{1,4})\.mlp_channels\.gate\.norm\.(\w+)", r"block_\1_gate/norm/\2"),
        Rule(r"blocks\.(\d{1,4})\.mlp_channels\.gate\.proj\.(\w+)", r"block_\1_gate/projection/\2"),
        LAST_NORM,
        HEAD,
    ),
)

ARCHITECTURE = Architecture(
    name="g_mlp",
    builder=GMLP,
    variants=_ROWS,
    preprocessing=SCALED,  # timm's, because the authors did not publish weights
    layouts=(_TIMM,),
    costs={"SpatialGatingUnit": token_map_cost},
)
