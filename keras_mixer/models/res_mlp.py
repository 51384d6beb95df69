"""ResMLP (Touvron et al., 2021, arXiv 2105.03404)."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from keras_mixer.models.parts import (
    HEAD,
    NINE_TENTHS,
    classifier,
    image_input,
    linear_rates,
    residual,
    token_map_cost,
    with_dtype,
)
from keras_mixer.models.record import Architecture, Layout, Rule, Variant
from keras_mixer.shapes import positive_integer

if TYPE_CHECKING:
    import keras


def _block(tokens, mlp_dim: int, layer_scale: float, rates: Sequence[float], dropout: float, name: str):
    """Applies one layer (equations 2 and 3): `Z = X + s1 * (A Aff(X))`, `Y = Z + s2 * MLP(Aff(Z))`."""
    import keras

    from keras_mixer import layers

    branch = layers.Affine(name=f"{name}_affine_0")(tokens)
    branch = layers.TokenLinear(keras.initializers.TruncatedNormal(stddev=0.02), name=f"{name}_token_linear")(branch)
    branch = layers.Affine(layer_scale, use_bias=False, name=f"{name}_layer_scale_0")(branch)
    tokens = residual(tokens, branch, rates[0], f"{name}_0")
    branch = layers.Affine(name=f"{name}_affine_1")(tokens)
    branch = layers.ChannelMLP(mlp_dim, dropout=dropout, name=f"{name}_channel_mlp")(branch)
    branch = layers.Affine(layer_scale, use_bias=False, name=f"{name}_layer_scale_1")(branch)
    return residual(tokens, branch, rates[1], f"{name}_1")


@with_dtype
def ResMLP(  # noqa: D417, N802 - a model constructor is named like a class, as in keras.applications
    *,
    num_blocks: int,
    patch_size: int | tuple[int, int],
    hidden_dim: int,
    mlp_ratio: float = 4,
    layer_scale: float = 1e-4,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    input_tensor=None,
    include_top: bool = True,
    classes: int = 1000,
    classifier_activation="softmax",
    pooling: str | None = None,
    stochastic_depth: float = 0.0,
    dropout: float = 0.0,
    name: str = "res_mlp",
) -> "keras.Model":
    """Builds a ResMLP with random weights; `keras_mixer.ResMLP24` and others build the published sizes.

    It differs from Mixer in three ways: an affine map of each channel replaces LayerNorm, one linear map across patches
    replaces the token-mixing MLP, and each branch has a learned factor per channel.

    Args:
        num_blocks: Number of layers.
        patch_size: Pixels of a patch, an integer or a pair (height, width).
        hidden_dim: Channels of a token.
        mlp_ratio: Hidden units of each channel MLP, divided by the channels.
        layer_scale: Initial factor on each branch. Deeper models use smaller factors.
        input_shape: Image shape (height, width, channels), each side a multiple of the patch.
        pooling: Without the head: None for the tokens, "avg" or "max" for their mean or maximum.
        input_tensor, include_top, classes, classifier_activation, stochastic_depth, dropout, dtype, name: As in
            `keras_mixer.Mixer`.

    Returns:
        A `keras.Model` like that of `keras_mixer.Mixer`. The published weights expect images normalised by ImageNet's
        mean and standard deviation.

    Raises:
        ValueError: If an argument is out of range or the patch does not divide the image.

    Example:
        >>> model = keras_mixer.ResMLP(
        ...     num_blocks=2, patch_size=4, hidden_dim=32, input_shape=(32, 32, 3), classes=10)
        >>> model(keras.ops.zeros((1, 32, 32, 3))).shape
        (1, 10)
    """
    from keras_mixer import layers

    num_blocks = positive_integer("num_blocks", num_blocks)
    rates = linear_rates(2 * num_blocks, stochastic_depth)

    images, inputs = image_input(input_shape, input_tensor)
    tokens = layers.PatchEmbedding(hidden_dim, patch_size, name="stem")(images)  # (batch, tokens, hidden_dim)
    for index in range(num_blocks):
        of_block = rates[2 * index : 2 * index + 2]
        tokens = _block(tokens, int(hidden_dim * mlp_ratio), layer_scale, of_block, dropout, f"block_{index}")
    tokens = layers.Affine(name="pre_head_affine")(tokens)
    return classifier(inputs, tokens, include_top, classes, classifier_activation, pooling, name)


@dataclasses.dataclass(frozen=True)
class ResMLPVariant:
    """The size of a ResMLP."""

    num_blocks: int
    patch_size: int
    hidden_dim: int
    mlp_ratio: float = 4
    layer_scale: float = 1e-4


# Table 1 of the paper; the initial factors on the branches are those of the authors' code.
_ROWS = (
    Variant("res_mlp_12", "ResMLP12", "ResMLP-S12", ResMLPVariant(12, 16, 384, layer_scale=0.1)),
    Variant("res_mlp_24", "ResMLP24", "ResMLP-S24", ResMLPVariant(24, 16, 384, layer_scale=1e-5)),
    Variant("res_mlp_36", "ResMLP36", "ResMLP-S36", ResMLPVariant(36, 16, 384, layer_scale=1e-6)),
    Variant("res_mlp_b24_8", "ResMLPB24x8", "ResMLP-B24/8", ResMLPVariant(24, 8, 768, layer_scale=1e-6)),
)
RES_MLP_VARIANTS: dict[str, ResMLPVariant] = {row.name: row.sizes for row in _ROWS}


def _vector(array):
    """Returns one value per channel, without the leading axes of length 1 that broadcast it in PyTorch."""
    return array.reshaped(array.shape[-1]) if array.shape and set(array.shape[:-1]) <= {1} else array


# The names of timm and of the authors, facebookresearch/deit.
_TORCH = Layout(
    r"blocks\.\d{1,4}\.(linear_tokens\.weight|norm1\.alpha)",
    (
        Rule(r"(?:stem|patch_embed)\.proj\.(\w+)", r"stem/\1"),
        Rule(r"blocks\.(\d{1,4})\.norm1\.(\w+)", r"block_\1_affine_0/\2", _vector),
        Rule(r"blocks\.(\d{1,4})\.norm2\.(\w+)", r"block_\1_affine_1/\2", _vector),
        Rule(r"blocks\.(\d{1,4})\.(?:linear_tokens|attn)\.(\w+)", r"block_\1_token_linear/\2"),
        Rule(r"blocks\.(\d{1,4})\.(?:ls|gamma_)1", r"block_\1_layer_scale_0/scale", _vector),
        Rule(r"blocks\.(\d{1,4})\.(?:ls|gamma_)2", r"block_\1_layer_scale_1/scale", _vector),
        Rule(r"blocks\.(\d{1,4})\.(?:mlp_channels|mlp)\.(fc[12])\.(\w+)", r"block_\1_channel_mlp/\2/\3"),
        Rule(r"norm\.(\w+)", r"pre_head_affine/\1", _vector),
        HEAD,
    ),
)

ARCHITECTURE = Architecture(
    name="res_mlp",
    builder=ResMLP,
    variants=_ROWS,
    preprocessing=NINE_TENTHS,  # facebookresearch/deit, README_resmlp.md; timm has 0.875
    layouts=(_TORCH,),
    costs={"TokenLinear": token_map_cost, "Affine": lambda layer: 0},
)
