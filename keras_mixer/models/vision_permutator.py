"""Vision Permutator (Hou et al., 2021, arXiv 2106.12368)."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from keras_mixer.models.parts import (
    IMAGENET,
    NINE_TENTHS,
    PYRAMID_RULES,
    Stage,
    by_stage,
    check_stages,
    image_input,
    pyramid,
    pyramid_classifier,
    reweighted_cost,
    with_dtype,
)
from keras_mixer.models.record import Architecture, Layout, Variant

if TYPE_CHECKING:
    import keras


def _downsampling(stage: int, hidden_dims: Sequence[int], transitions: Sequence[bool]):
    """Returns the layer that makes the next stage's feature map; None after the last stage or without a transition."""
    if stage + 1 == len(hidden_dims) or (not transitions[stage] and hidden_dims[stage] == hidden_dims[stage + 1]):
        return None
    from keras_mixer.layers import PatchMerging

    return PatchMerging(hidden_dims[stage + 1], 2 if transitions[stage] else 1, name=f"downsampling_{stage}")


@with_dtype
def VisionPermutator(  # noqa: D417, N802 - a model constructor is named like a class, as in keras.applications
    *,
    layers: Sequence[int],
    patch_size: int | tuple[int, int],
    hidden_dims: Sequence[int],
    transitions: Sequence[bool],
    segment_dims: Sequence[int],
    mlp_ratios: Sequence[float],
    input_shape: tuple[int, int, int] = (224, 224, 3),
    input_tensor=None,
    include_top: bool = True,
    classes: int = 1000,
    classifier_activation="softmax",
    pooling: str | None = None,
    stochastic_depth: float = 0.0,
    dropout: float = 0.0,
    name: str = "vision_permutator",
) -> "keras.Model":
    """Builds a Vision Permutator with random weights; `VisionPermutatorSmall7` and others build the published sizes.

    Each block mixes height, width and channels separately and weights the three results by the image. The tokens form a
    feature map, which may shrink between stages.

    Args:
        layers: Blocks of each stage.
        patch_size: Pixels of a patch, an integer or a pair (height, width).
        hidden_dims: Channels in each stage.
        transitions: For each stage, whether the next one has half the rows and columns; the last entry is ignored.
        segment_dims: Segments of the channels in each stage; in the paper, the rows and columns at 224 pixels.
        mlp_ratios: For each stage, the hidden units of the channel MLPs divided by the channels.
        input_shape: Image shape (height, width, channels). Each side must be a multiple of the patch size times 2 for
            each transition.
        pooling: Without the head: None for the feature maps, "avg" or "max" for the mean or maximum of the last one.
        input_tensor, include_top, classes, classifier_activation, stochastic_depth, dropout, dtype, name: As in
            `keras_mixer.Mixer`.

    Returns:
        A `keras.Model` like that of `keras_mixer.Mixer`. Instead of tokens it returns a list of feature maps `(batch,
        rows, columns, channels)`, one per resolution, finest first. The published weights expect images normalised by
        ImageNet's mean and standard deviation.

    Raises:
        ValueError: If an argument is out of range or the image has a size that `input_shape` does not allow.

    Example:
        >>> model = keras_mixer.VisionPermutator(
        ...     layers=(1, 1), patch_size=4, hidden_dims=(16, 32), transitions=(True, False), segment_dims=(8, 4),
        ...     mlp_ratios=(3, 3), input_shape=(32, 32, 3), classes=10)
        >>> model(keras.ops.zeros((1, 32, 32, 3))).shape
        (1, 10)
    """
    from keras_mixer.layers import PatchMap, WeightedPermuteMLP

    check_stages(
        layers, hidden_dims=hidden_dims, transitions=transitions, segment_dims=segment_dims, mlp_ratios=mlp_ratios
    )
    stages = [
        Stage(
            blocks,
            mlp_ratios[number],
            functools.partial(WeightedPermuteMLP, segment_dims[number]),
            _downsampling(number, hidden_dims, transitions),
        )
        for number, blocks in enumerate(layers)
    ]

    images, inputs = image_input(input_shape, input_tensor)
    features = PatchMap(hidden_dims[0], patch_size, name="stem")(images)  # (batch, rows, columns, channels)
    maps = pyramid(features, stages, stochastic_depth, dropout)
    return pyramid_classifier(inputs, maps, include_top, classes, classifier_activation, pooling, name)


@dataclasses.dataclass(frozen=True)
class VisionPermutatorVariant:
    """The size of a Vision Permutator, in the terms of table 1 of the paper."""

    layers: tuple[int, ...]
    patch_size: int
    hidden_dims: tuple[int, ...]
    transitions: tuple[bool, ...]
    segment_dims: tuple[int, ...]
    mlp_ratios: tuple[float, ...] = (3, 3, 3, 3)


# Table 1 of the paper and the authors' code.
_ROWS = (
    Variant(
        "vision_permutator_small_14",
        "VisionPermutatorSmall14",
        "ViP-Small/14",
        VisionPermutatorVariant((4, 3, 8, 3), 14, (384, 384, 384, 384), (False, False, False, False), (16, 16, 16, 16)),
    ),
    Variant(
        "vision_permutator_small_7",
        "VisionPermutatorSmall7",
        "ViP-Small/7",
        VisionPermutatorVariant((4, 3, 8, 3), 7, (192, 384, 384, 384), (True, False, False, False), (32, 16, 16, 16)),
    ),
    Variant(
        "vision_permutator_medium_7",
        "VisionPermutatorMedium7",
        "ViP-Medium/7",
        VisionPermutatorVariant((4, 3, 14, 3), 7, (256, 256, 512, 512), (False, True, False, False), (32, 32, 16, 16)),
        NINE_TENTHS,
    ),
    Variant(
        "vision_permutator_large_7",
        "VisionPermutatorLarge7",
        "ViP-Large/7",
        VisionPermutatorVariant((8, 8, 16, 4), 7, (256, 512, 512, 512), (True, False, False, False), (32, 16, 16, 16)),
    ),
)
VISION_PERMUTATOR_VARIANTS: dict[str, VisionPermutatorVariant] = {row.name: row.sizes for row in _ROWS}


def _mixing_cost(layer) -> int:
    """Returns the multiply-adds of a mixing whose outputs each sum a row or column of one segment."""
    _, rows, columns, channels = layer.output.shape
    return reweighted_cost(layer, rows * channels // layer.segment_dim, columns * channels // layer.segment_dim)


ARCHITECTURE = Architecture(
    name="vision_permutator",
    builder=VisionPermutator,
    variants=_ROWS,
    preprocessing=IMAGENET,  # houqb/VisionPermutator, models/vip.py
    layouts=(Layout(r"network\.\d{1,4}\.\d{1,4}\.attn\.mlp_h\.weight", PYRAMID_RULES, by_stage),),
    costs={"WeightedPermuteMLP": _mixing_cost},
)
