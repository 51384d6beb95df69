"""MLP-Mixer (Tolstikhin et al., 2021, arXiv 2105.01601)."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from keras_mixer.models.parts import HEAD, LAST_NORM, classifier, image_input, linear_rates, with_dtype
from keras_mixer.models.record import Architecture, Layout, Rule, Variant, WeightSet
from keras_mixer.preprocessing import Preprocessing
from keras_mixer.shapes import positive_integer

if TYPE_CHECKING:
    import keras


@with_dtype
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
) -> "keras.Model":
    """Builds an MLP-Mixer with random weights. `keras_mixer.MixerB16` and others also load published weights.

    The model follows figure 1 and section 2 of the paper. It projects each patch to a token and applies `num_blocks`
    Mixer layers, LayerNorm, the mean over tokens and a linear head. The layers are named as in the official
    checkpoints: `stem`, `MixerBlock_0` and so on, `pre_head_layer_norm`, `head`.

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
        stochastic_depth: Probability, in [0, 1), with which training drops the last residual branch of a sample. The
            probability rises linearly from 0 at the first branch.
        dropout: Dropout rate inside the MLPs, in [0, 1).
        untied: Whether each channel has its own token-mixing MLPs, see `keras_mixer.layers.UntiedTokenMixing`.
        channel_groups: Channels that a token-mixing MLP sees at once, see `keras_mixer.layers.GroupedTokenMixing`.
        grouping: How these channels are joined, "concat" or "project".
        tokens: For a pyramid, the number of tokens after each block, such as `(64, 64, 16, 16)` for four blocks on 64
            patches. The numbers must not rise. None keeps all tokens. A block that reduces them has a
            `keras_mixer.layers.TokenShortcut`. In the paper, pyramids trained much faster with little loss of accuracy
            on JFT-300M, but not on ImageNet.
        dtype: Dtype policy of the layers, a name such as "mixed_bfloat16" or a `keras.DTypePolicy`; None for Keras's
            own, `keras.config.dtype_policy()`.
        name: Name of the model.

    Returns:
        A functional `keras.Model` from images `(batch, height, width, channels)` in [-1, 1] to class scores
        `(batch, classes)`, pre-logits `(batch, hidden_dim)` or tokens `(batch, tokens, hidden_dim)`. The head
        computes in at least float32, whatever the dtype policy of the body.

    Raises:
        ValueError: If an argument is out of range, the patch does not divide the image, or two arguments cannot be used
            together.

    Example:
        >>> model = keras_mixer.Mixer(
        ...     num_blocks=2, patch_size=4, hidden_dim=32, tokens_mlp_dim=16, channels_mlp_dim=64,
        ...     input_shape=(32, 32, 3), classes=10)
        >>> model(keras.ops.zeros((1, 32, 32, 3))).shape
        (1, 10)
    """
    from keras_mixer import layers

    num_blocks = positive_integer("num_blocks", num_blocks)
    rates = linear_rates(2 * num_blocks, stochastic_depth)

    images, inputs = image_input(input_shape, input_tensor)
    table = layers.PatchEmbedding(hidden_dim, patch_size, name="stem")(images)  # (batch, tokens, hidden_dim)
    for index, tokens_out in enumerate(_tokens_of_blocks(tokens, num_blocks, table.shape[1])):
        table = layers.MixerBlock(
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
    table = layers.LayerNorm(name="pre_head_layer_norm")(table)
    return classifier(inputs, table, include_top, classes, classifier_activation, pooling, name)


def _tokens_of_blocks(tokens: Sequence[int] | None, num_blocks: int, patches: int) -> Sequence[int | None]:
    """Returns the number of tokens after each block, where None keeps the number."""
    if tokens is None:
        return [None] * num_blocks
    counts = [positive_integer("tokens", count) for count in tokens]
    if len(counts) != num_blocks or any(after > before for before, after in itertools.pairwise([patches, *counts])):
        raise ValueError(
            f"`tokens` must list the number of tokens after each of the {num_blocks} blocks. It must not rise, and the "
            f"first is at most {patches}, the number of patches; got {tuple(tokens)}."
        )
    return counts


@dataclasses.dataclass(frozen=True)
class MixerVariant:
    """The size of a Mixer, in the terms of table 1 of the paper, and its usual image size."""

    num_blocks: int
    patch_size: int
    hidden_dim: int
    tokens_mlp_dim: int
    channels_mlp_dim: int
    input_shape: tuple[int, int, int] = (224, 224, 3)


# Table 1 of the paper, S/8 from the released weights, and Nano, a size that public repositories train on CIFAR-10.
_ROWS = (
    Variant("mixer_s32", "MixerS32", "Mixer-S/32", MixerVariant(8, 32, 512, 256, 2048)),
    Variant("mixer_s16", "MixerS16", "Mixer-S/16", MixerVariant(8, 16, 512, 256, 2048)),
    Variant("mixer_s8", "MixerS8", "Mixer-S/8", MixerVariant(8, 8, 512, 256, 2048)),
    Variant("mixer_b32", "MixerB32", "Mixer-B/32", MixerVariant(12, 32, 768, 384, 3072)),
    Variant("mixer_b16", "MixerB16", "Mixer-B/16", MixerVariant(12, 16, 768, 384, 3072)),
    Variant("mixer_l32", "MixerL32", "Mixer-L/32", MixerVariant(24, 32, 1024, 512, 4096)),
    Variant("mixer_l16", "MixerL16", "Mixer-L/16", MixerVariant(24, 16, 1024, 512, 4096)),
    Variant("mixer_h14", "MixerH14", "Mixer-H/14", MixerVariant(32, 14, 1280, 640, 5120)),
    Variant("mixer_nano", "MixerNano", "Mixer-Nano", MixerVariant(8, 4, 128, 64, 512, input_shape=(32, 32, 3))),
)
VARIANTS: dict[str, MixerVariant] = {row.name: row.sizes for row in _ROWS}

_SAM = "trained on ImageNet-1k with sharpness-aware minimisation (arXiv 2106.01548)"
_GSAM = "trained on ImageNet-1k with surrogate gap minimisation (arXiv 2203.08065)"
_GSAM_NOTE = (
    "Reported broken: users could not read these files or found poor accuracy "
    "(issue 195 of google-research/vision_transformer). Check the accuracy before relying on them."
)
_FROM_SCRATCH_NOTE = (
    "The hub calls this file in21k_ft_in1k; it holds the weights trained on ImageNet-1k from scratch, "
    "not a fine-tuned ImageNet-21k model."
)
_MIIL: dict[str, Any] = {
    "licence": "see github.com/Alibaba-MIIL/ImageNet21K",
    "preprocessing": Preprocessing(mean=0.0, std=1.0),  # [0, 1]
    "note": "Trained and evaluated in timm, whose GELU is the erf form; this package computes the tanh form.",
}


def _sets(
    name: str, classes: int, training: str, files: str, hub: str = "", licence: str = "Apache-2.0", **fields
) -> list[WeightSet]:
    """Returns the authors' sets of this name, or timm's sets in the repositories whose names end in `hub`."""
    sets = []
    for file in files.split():
        variant = f"mixer_{file.replace('_', '').lower()}"
        url = f"https://storage.googleapis.com/mixer_models/{name}/Mixer-{file}.npz"
        source = "google-research/vision_transformer"
        if hub:
            source = f"huggingface.co/timm/{variant}_224.{hub}"
            url = f"https://{source}/resolve/main/model.safetensors"
        sets.append(WeightSet(variant, name, url, classes, f"{source}, {training}", licence, **fields))
    return sets


_CONVERTED = "the official {} converted"
_21K_P = "trained on ImageNet-21k-P{} (arXiv 2104.10972)"
_PUBLISHED = (
    WeightSet(
        "mixer_nano",
        "cifar10",
        url=None,
        classes=10,
        source="keras_mixer, trained on CIFAR-10 by the recipe in the .json file beside the weights",
        licence="Apache-2.0",
        preprocessing=Preprocessing(image_size=(32, 32), resize="direct"),
        class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    ),
    *_sets("imagenet1k", 1_000, "trained on ImageNet-1k", "B_16 L_16"),
    *_sets("imagenet21k", 21_843, "trained on ImageNet-21k", "B_16 L_16"),
    *_sets("sam", 1_000, _SAM, "B_16 B_32"),
    *_sets("gsam", 1_000, _GSAM, "B_16 B_32 S_16 S_32 S_8", note=_GSAM_NOTE),
    *_sets("imagenet21k_timm", 21_843, _CONVERTED.format("imagenet21k"), "B_16 L_16", "goog_in21k"),
    *_sets(
        "imagenet1k_timm",
        1_000,
        _CONVERTED.format("imagenet1k"),
        "B_16 L_16",
        "goog_in21k_ft_in1k",
        note=_FROM_SCRATCH_NOTE,
    ),
    *_sets("imagenet21k_miil", 11_221, _21K_P.format(""), "B_16", "miil_in21k", **_MIIL),
    *_sets(
        "imagenet1k_miil", 1_000, _21K_P.format(", fine-tuned on ImageNet-1k"), "B_16", "miil_in21k_ft_in1k", **_MIIL
    ),
)


def _without_leading_axis(array):
    return array.reshaped(*array.shape[1:]) if array.shape[:1] == (1,) else array


# The official layout of May 2021, in which the MLP weights have a leading axis of length 1.
_OF_2021 = Layout(
    r"embedding/.*|Mixer/.*",
    (
        Rule(r"embedding/(\w+)", r"stem/\1", lambda array: array),
        Rule(r"Mixer/encoder_norm/(\w+)", r"pre_head_layer_norm/\1"),
        Rule(r"Mixer/encoderblock_(\d{1,4})/(LayerNorm_[01]/\w+)", r"MixerBlock_\1/\2"),
        Rule(
            r"Mixer/encoderblock_(\d{1,4})/(token|channel)_mixing_phase_0/(kernel|bias)([12])",
            r"MixerBlock_\1/\2_mixing/fc\4/\3",
            _without_leading_axis,
        ),
    ),
)
_TIMM = Layout(
    r"blocks\.\d{1,4}\.mlp_tokens\..*",
    (
        Rule(r"stem\.proj\.(\w+)", r"stem/\1"),
        Rule(r"blocks\.(\d{1,4})\.norm1\.(\w+)", r"MixerBlock_\1/LayerNorm_0/\2"),
        Rule(r"blocks\.(\d{1,4})\.norm2\.(\w+)", r"MixerBlock_\1/LayerNorm_1/\2"),
        Rule(r"blocks\.(\d{1,4})\.mlp_(token|channel)s\.(fc[12])\.(\w+)", r"MixerBlock_\1/\2_mixing/\3/\4"),
        LAST_NORM,
        HEAD,
    ),
)


def _block_cost(layer) -> int:
    _, tokens, channels = layer.input.shape
    _, tokens_out, _ = layer.output.shape
    groups = layer.channel_groups
    # Columns of S * G values each; without groups, C columns of S values.
    token_mlp = (channels // groups) * groups * (tokens + tokens_out) * layer.tokens_mlp_dim
    views = tokens * channels * channels if layer.grouping == "project" else 0
    shortcut = tokens * tokens_out * channels if tokens_out != tokens else 0
    channel_mlp = 2 * tokens_out * channels * layer.channels_mlp_dim
    return token_mlp + views + shortcut + channel_mlp


ARCHITECTURE = Architecture(
    name="mixer",
    builder=Mixer,
    variants=_ROWS,
    published=_PUBLISHED,
    layouts=(_OF_2021, _TIMM),
    costs={"MixerBlock": _block_cost},
    token_kernel="MixerBlock_0/token_mixing/Dense_0",
)
