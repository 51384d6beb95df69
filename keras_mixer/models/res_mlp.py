"""ResMLP (Touvron et al., 2021, arXiv 2105.03404): the block, the model and the table of its variants."""

import dataclasses

import keras

from keras_mixer.layers import Affine, ChannelMLP, PatchEmbedding, TokenLinear
from keras_mixer.layers.helpers import positive_integer
from keras_mixer.models.head import classifier
from keras_mixer.models.images import image_input
from keras_mixer.models.residual import linear_rates, residual


def _block(tokens, *, mlp_dim: int, layer_scale: float, rates: tuple[float, float], dropout: float, name: str):
    """One layer, equations 2 and 3: `Z = X + s1 * (A Aff(X))`, `Y = Z + s2 * MLP(Aff(Z))`."""
    branch = Affine(name=f"{name}_affine_0")(tokens)
    branch = TokenLinear(keras.initializers.TruncatedNormal(stddev=0.02), name=f"{name}_token_linear")(branch)
    branch = Affine(layer_scale, use_bias=False, name=f"{name}_layer_scale_0")(branch)
    tokens = residual(tokens, branch, rates[0], f"{name}_0")
    branch = Affine(name=f"{name}_affine_1")(tokens)
    branch = ChannelMLP(mlp_dim, dropout=dropout, name=f"{name}_channel_mlp")(branch)
    branch = Affine(layer_scale, use_bias=False, name=f"{name}_layer_scale_1")(branch)
    return residual(tokens, branch, rates[1], f"{name}_1")


def ResMLP(  # noqa: N802 - a model constructor is named like a class, as in keras.applications
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
) -> keras.Model:
    """Builds a ResMLP with random weights; `keras_mixer.ResMLP24` and its siblings build the published sizes.

    Like Mixer, but with an affine map of each channel in place of LayerNorm, one linear map across patches in place
    of an MLP, and a learned factor on each branch.

    Args:
        num_blocks: Number of layers.
        patch_size: Pixels of a patch, an integer or a pair (height, width).
        hidden_dim: Channels of a token.
        mlp_ratio: Hidden units of each channel MLP per channel.
        layer_scale: Factor on each branch at the start; the deeper the model, the smaller.
        input_shape: Image shape (height, width, channels), each side a multiple of the patch.
        input_tensor: Keras tensor of images to build on, instead of a new input of `input_shape`.
        include_top: Whether to end in the classification head.
        classes: Classes of the head.
        classifier_activation: Activation of the head; None for logits.
        pooling: Without the head: None for the tokens, "avg" for their mean, "max" for their maximum.
        stochastic_depth: Probability of dropping the last branch for a sample while training, in [0, 1); it rises
            linearly from 0 at the first branch.
        dropout: Dropout rate inside the MLPs, in [0, 1).
        name: Name of the model.

    Returns:
        A functional `keras.Model` from images `(batch, height, width, channels)`, normalised by ImageNet's mean and
        deviation for the published weights, to class scores `(batch, classes)`, pooled features `(batch, hidden_dim)`
        or tokens `(batch, tokens, hidden_dim)`.

    Raises:
        ValueError: If an argument is out of range or the patch does not divide the image.

    Example:
        >>> model = keras_mixer.ResMLP(
        ...     num_blocks=2, patch_size=4, hidden_dim=32, input_shape=(32, 32, 3), classes=10)
        >>> model(keras.ops.zeros((1, 32, 32, 3))).shape
        (1, 10)
    """
    num_blocks = positive_integer("num_blocks", num_blocks)
    rates = linear_rates(2 * num_blocks, stochastic_depth)

    images, inputs = image_input(input_shape, input_tensor)
    tokens = PatchEmbedding(hidden_dim, patch_size, name="stem")(images)  # (batch, tokens, hidden_dim)
    for index in range(num_blocks):
        tokens = _block(
            tokens,
            mlp_dim=int(hidden_dim * mlp_ratio),
            layer_scale=layer_scale,
            rates=(rates[2 * index], rates[2 * index + 1]),
            dropout=dropout,
            name=f"block_{index}",
        )
    tokens = Affine(name="pre_head_affine")(tokens)
    return classifier(inputs, tokens, include_top, classes, classifier_activation, pooling, name)


@dataclasses.dataclass(frozen=True)
class ResMLPVariant:
    """The size of a ResMLP."""

    num_blocks: int
    patch_size: int
    hidden_dim: int
    mlp_ratio: float = 4
    layer_scale: float = 1e-4


# Table 1 of the paper; the factors on the branches are those of the authors' code.
RES_MLP_VARIANTS = {
    "res_mlp_12": ResMLPVariant(12, 16, 384, layer_scale=0.1),
    "res_mlp_24": ResMLPVariant(24, 16, 384, layer_scale=1e-5),
    "res_mlp_36": ResMLPVariant(36, 16, 384, layer_scale=1e-6),
    "res_mlp_b24_8": ResMLPVariant(24, 8, 768, layer_scale=1e-6),
}
