"""CycleMLP (Chen et al., 2021, arXiv 2107.10224)."""

import dataclasses
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_mixer.models.parts import (
    IMAGENET,
    PYRAMID_RULES,
    Stage,
    by_stage,
    check_stages,
    convolution,
    image_input,
    kernel_cost,
    pyramid,
    pyramid_classifier,
    reweighted_cost,
    with_dtype,
)
from keras_mixer.models.record import Architecture, Layout, Rule, Variant

if TYPE_CHECKING:
    import keras


def _padded_convolution(hidden_dim: int, kernel_size: int, strides: int, padding: int, name: str):
    """Returns a convolution with equal padding at both ends. Keras's "same" pads more at the far end."""
    import keras

    pad = keras.layers.ZeroPadding2D(padding, data_format="channels_last", name=f"{name}_padding")
    convolve = convolution(hidden_dim, kernel_size, strides, name)
    return lambda features: convolve(pad(features))


def _downsampling(stage: int, hidden_dims: Sequence[int], transitions: Sequence[bool]):
    """Returns the layer that makes the next stage's feature map; None after the last stage or without a transition."""
    if stage + 1 == len(hidden_dims):
        return None
    if transitions[stage]:
        return _padded_convolution(hidden_dims[stage + 1], 3, 2, 1, f"downsampling_{stage}")
    if hidden_dims[stage] != hidden_dims[stage + 1]:
        raise ValueError(
            f"CycleMLP can change its channels only between stages that halve the map: `hidden_dims` goes from "
            f"{hidden_dims[stage]} to {hidden_dims[stage + 1]} after stage {stage}, but `transitions` is "
            f"{tuple(transitions)}."
        )
    return None


@with_dtype
def CycleMLP(  # noqa: D417, N802 - a model constructor is named like a class, as in keras.applications
    *,
    layers: Sequence[int],
    hidden_dims: Sequence[int],
    transitions: Sequence[bool],
    mlp_ratios: Sequence[float],
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    input_tensor=None,
    include_top: bool = True,
    classes: int = 1000,
    classifier_activation="softmax",
    pooling: str | None = None,
    stochastic_depth: float = 0.0,
    dropout: float = 0.0,
    name: str = "cycle_mlp",
) -> "keras.Model":
    """Builds a CycleMLP with random weights; `keras_mixer.CycleMLPB1` and others build the published sizes.

    CycleMLP is a pyramid. Its spatial mixing reads each channel from a pixel at a different offset, at a cost linear in
    the number of pixels. The weights do not depend on the size of the image, so the model takes images of any size. As
    in the authors' code, the model ignores the last row or column if a side has 4n + 2 pixels.

    Args:
        layers: Blocks of each stage.
        hidden_dims: Channels in each stage.
        transitions: For each stage, whether the next one has half the rows and columns; the last entry is ignored.
        mlp_ratios: For each stage, the hidden units of the channel MLPs divided by the channels.
        input_shape: Image shape (height, width, channels); None for a side of any length.
        pooling: Without the head: None for the feature maps, "avg" or "max" for the mean or maximum of the last one.
        input_tensor, include_top, classes, classifier_activation, stochastic_depth, dropout, dtype, name: As in
            `keras_mixer.Mixer`.

    Returns:
        A `keras.Model` like that of `keras_mixer.Mixer`. Instead of tokens it returns a list of feature maps `(batch,
        rows, columns, channels)`, one per resolution, finest first. In the published sizes their strides are 4, 8, 16
        and 32. The published weights expect images normalised by ImageNet's mean and standard deviation.

    Raises:
        ValueError: If an argument is out of range, or the channels change without a transition.

    Example:
        >>> model = keras_mixer.CycleMLPB1(include_top=False)
        >>> [features.shape for features in model(keras.ops.zeros((1, 64, 96, 3)))]
        [(1, 16, 24, 64), (1, 8, 12, 128), (1, 4, 6, 320), (1, 2, 3, 512)]
    """
    from keras_mixer.layers import CycleMixing

    check_stages(layers, hidden_dims=hidden_dims, transitions=transitions, mlp_ratios=mlp_ratios)
    stages = [
        Stage(blocks, mlp_ratios[number], CycleMixing, _downsampling(number, hidden_dims, transitions))
        for number, blocks in enumerate(layers)
    ]

    images, inputs = image_input(input_shape, input_tensor)
    features = _padded_convolution(hidden_dims[0], 7, 4, 2, "stem")(images)  # overlapping patches
    maps = pyramid(features, stages, stochastic_depth, dropout)
    return pyramid_classifier(inputs, maps, include_top, classes, classifier_activation, pooling, name)


@dataclasses.dataclass(frozen=True)
class CycleMLPVariant:
    """The size of a CycleMLP, in the terms of table 1 of the paper."""

    layers: tuple[int, ...]
    hidden_dims: tuple[int, ...]
    transitions: tuple[bool, ...] = (True, True, True, True)
    mlp_ratios: tuple[float, ...] = (4, 4, 4, 4)


# Table 1 of the paper and the authors' code.
_DIMS, _RATIOS = (64, 128, 320, 512), (8, 8, 4, 4)
_ROWS = (
    Variant("cycle_mlp_b1", "CycleMLPB1", "CycleMLP-B1", CycleMLPVariant((2, 2, 4, 2), _DIMS)),
    Variant("cycle_mlp_b2", "CycleMLPB2", "CycleMLP-B2", CycleMLPVariant((2, 3, 10, 3), _DIMS)),
    Variant("cycle_mlp_b3", "CycleMLPB3", "CycleMLP-B3", CycleMLPVariant((3, 4, 18, 3), _DIMS, mlp_ratios=_RATIOS)),
    Variant("cycle_mlp_b4", "CycleMLPB4", "CycleMLP-B4", CycleMLPVariant((3, 8, 27, 3), _DIMS, mlp_ratios=_RATIOS)),
    Variant("cycle_mlp_b5", "CycleMLPB5", "CycleMLP-B5", CycleMLPVariant((3, 4, 24, 3), (96, 192, 384, 768))),
)
CYCLE_MLP_VARIANTS: dict[str, CycleMLPVariant] = {row.name: row.sizes for row in _ROWS}

_MOST_CHANNELS = 2**16  # of a layer in any checkpoint


def _pointwise(array):
    """Returns a weight (outputs, inputs, 1, 1) as (inputs, outputs), and a bias unchanged."""
    return array.reshaped(*array.shape[:2]).transposed(1, 0) if array.shape[2:] == (1, 1) else array


_RULES = (  # the "h" of the authors' code shifts along the width
    Rule(r"(stage_\d{1,4})\.(\d{1,4})\.attn\.sfc_h\.(\w+)", r"\1_block_\2_mixing/cycle_width/\3", _pointwise),
    Rule(r"(stage_\d{1,4})\.(\d{1,4})\.attn\.sfc_w\.(\w+)", r"\1_block_\2_mixing/cycle_height/\3", _pointwise),
    *PYRAMID_RULES,
)


def _prepared(arrays: dict) -> dict:
    """Drops the fixed offsets after checking them, and names the stages."""
    return by_stage({key: array for key, array in arrays.items() if not _is_checked_offset(key, array)})


def _is_checked_offset(key: str, array) -> bool:
    match = re.fullmatch(r".*\.attn\.sfc_([hw])\.offset", key)
    if match is None:
        return False
    channels = array.shape[1] // 2 if len(array.shape) == 4 else 0
    # Pairs (down, right) for each channel; CycleFC reads 1, -1 and 0 pixels away in turn.
    shifts = (np.arange(min(channels, _MOST_CHANNELS)) + 1) % 3 - 1
    expected = np.zeros((1, 2 * len(shifts), 1, 1))
    expected[0, int(match[1] == "h") :: 2, 0, 0] = shifts
    if array.shape != expected.shape or not np.array_equal(array.read(), expected):
        raise ValueError(
            f"The checkpoint's {key} are not the offsets of a pseudo-kernel of 3 pixels, which CycleFC has."
        )
    return True


ARCHITECTURE = Architecture(
    name="cycle_mlp",
    builder=CycleMLP,
    variants=_ROWS,
    preprocessing=IMAGENET,  # ShoufaChen/CycleMLP, datasets.py, which ignores the crop_pct of its cycle_mlp.py
    layouts=(Layout(r"network\.\d{1,4}\.\d{1,4}\.attn\.sfc_h\.weight", _RULES, _prepared),),
    costs={"CycleFC": kernel_cost, "CycleMixing": lambda layer: reweighted_cost(layer, *[layer.output.shape[-1]] * 2)},
)
