"""MLP-Mixer (Tolstikhin et al., 2021, arXiv 2105.01601): the model and the table of its variants."""

import dataclasses
import itertools
from collections.abc import Sequence

import keras

from keras_mixer.layers import LayerNorm, MixerBlock, PatchEmbedding
from keras_mixer.layers.helpers import positive_integer
from keras_mixer.models.head import classifier
from keras_mixer.models.images import image_input
from keras_mixer.models.residual import linear_rates


def Mixer(  # noqa: N802 - a model constructor is named like a class, as in keras.applications
    *,
    num_blocks: int,
    patch_size: int | tuple[int, int],
    hidden_dim: int,
    tokens_mlp_dim: int,
    channels_mlp_dim: int,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    input_tensor=None,
    include_top: bool = True,
    classes: int = 1000,
    classifier_activation="softmax",
    pooling: str | None = None,
    stochastic_depth: float = 0.0,
    dropout: float = 0.0,
    untied: bool = False,
    channel_groups: int = 1,
    grouping: str = "concat",
    tokens: Sequence[int] | None = None,
    name: str = "mixer",
) -> keras.Model:
    """Builds an MLP-Mixer with random weights; `keras_mixer.MixerB16` and its siblings also load published ones.

    Figure 1 and section 2 of the paper: patches, each projected to a token; `num_blocks` Mixer layers; LayerNorm; the
    mean over tokens; a linear head. The layers are named as in the official checkpoints: `stem`, `MixerBlock_0` and
    on, `pre_head_layer_norm`, `head`, so that `model.get_layer("MixerBlock_3").output` is the table of tokens after the
    fourth block.

    Args:
        num_blocks: Number of Mixer layers.
        patch_size: Pixels of a patch, an integer or a pair (height, width).
        hidden_dim: Channels of a token, C in the paper.
        tokens_mlp_dim: Hidden units of each token-mixing MLP, D_S in the paper.
        channels_mlp_dim: Hidden units of each channel-mixing MLP, D_C in the paper.
        input_shape: Image shape (height, width, channels), each side a multiple of the patch.
        input_tensor: Keras tensor of images to build on, instead of a new input of `input_shape`.
        include_top: Whether to end in the classification head.
        classes: Classes of the head.
        classifier_activation: Activation of the head; None for logits.
        pooling: Without the head: None for the normalised tokens, "avg" for their mean (the pre-logits), "max" for
            their maximum.
        stochastic_depth: Probability of dropping the last MLP for a sample while training, in [0, 1); it rises
            linearly from 0 at the first MLP.
        dropout: Dropout rate inside the MLPs, in [0, 1).
        untied: Whether every channel has token-mixing MLPs of its own, see `keras_mixer.layers.UntiedTokenMixing`.
        channel_groups: Channels that a token-mixing MLP sees at once, see `keras_mixer.layers.GroupedTokenMixing`.
        grouping: How those are joined: "concat" or "project".
        tokens: A pyramid: the number of tokens that each block puts out, never more than it takes in, as
            `(64, 64, 16, 16)` for four blocks on 64 patches. None keeps all. The residual path of a block that
            reduces is a learned linear map over tokens, see `keras_mixer.layers.TokenShortcut`. The paper saw much
            less training time at little loss on JFT-300M, and could not transfer it to ImageNet.
        name: Name of the model.

    Returns:
        A functional `keras.Model` from images `(batch, height, width, channels)` in [-1, 1] to class scores
        `(batch, classes)`, pre-logits `(batch, hidden_dim)` or tokens `(batch, tokens, hidden_dim)`. The head
        computes in float32 at least, whatever the dtype policy of the body.

    Raises:
        ValueError: If an argument is out of range, the patch does not divide the image, or arguments exclude each
            other.

    Example:
        >>> model = keras_mixer.Mixer(
        ...     num_blocks=2, patch_size=4, hidden_dim=32, tokens_mlp_dim=16, channels_mlp_dim=64,
        ...     input_shape=(32, 32, 3), classes=10)
        >>> model(keras.ops.zeros((1, 32, 32, 3))).shape
        (1, 10)
    """
    num_blocks = positive_integer("num_blocks", num_blocks)
    rates = linear_rates(2 * num_blocks, stochastic_depth)

    images, inputs = image_input(input_shape, input_tensor)
    table = PatchEmbedding(hidden_dim, patch_size, name="stem")(images)  # (batch, tokens, hidden_dim)
    for index, tokens_out in enumerate(_tokens_of_blocks(tokens, num_blocks, table.shape[1])):
        table = MixerBlock(
            tokens_mlp_dim,
            channels_mlp_dim,
            stochastic_depth=(rates[2 * index], rates[2 * index + 1]),
            dropout=dropout,
            untied=untied,
            channel_groups=channel_groups,
            grouping=grouping,
            tokens=tokens_out,
            name=f"MixerBlock_{index}",
        )(table)
    table = LayerNorm(name="pre_head_layer_norm")(table)
    return classifier(inputs, table, include_top, classes, classifier_activation, pooling, name)


def _tokens_of_blocks(tokens: Sequence[int] | None, num_blocks: int, patches: int) -> Sequence[int | None]:
    """Tokens that each block puts out; None for as many as it takes in."""
    if tokens is None:
        return [None] * num_blocks
    counts = [positive_integer("tokens", count) for count in tokens]
    if len(counts) != num_blocks or any(after > before for before, after in itertools.pairwise([patches, *counts])):
        raise ValueError(
            f"`tokens` says how many tokens each block puts out: {num_blocks} numbers for {num_blocks} blocks, none "
            f"above the one before it, the first at most {patches}, the patches of the image; got {tuple(tokens)}."
        )
    return counts


@dataclasses.dataclass(frozen=True)
class MixerVariant:
    """The size of a Mixer, in the terms of table 1 of the paper, and the image that it is made for."""

    num_blocks: int
    patch_size: int
    hidden_dim: int
    tokens_mlp_dim: int
    channels_mlp_dim: int
    input_shape: tuple[int, int, int] = (224, 224, 3)


# Table 1 of the paper. Not in it are S/8, which is among the released weights (sharpness-aware training), and Nano, the
# size that public repositories train on CIFAR-10.
VARIANTS = {
    "mixer_s32": MixerVariant(8, 32, 512, 256, 2048),
    "mixer_s16": MixerVariant(8, 16, 512, 256, 2048),
    "mixer_s8": MixerVariant(8, 8, 512, 256, 2048),
    "mixer_b32": MixerVariant(12, 32, 768, 384, 3072),
    "mixer_b16": MixerVariant(12, 16, 768, 384, 3072),
    "mixer_l32": MixerVariant(24, 32, 1024, 512, 4096),
    "mixer_l16": MixerVariant(24, 16, 1024, 512, 4096),
    "mixer_h14": MixerVariant(32, 14, 1280, 640, 5120),
    "mixer_nano": MixerVariant(8, 4, 128, 64, 512, input_shape=(32, 32, 3)),
}
