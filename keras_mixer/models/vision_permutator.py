"""Vision Permutator (Hou et al., 2021, arXiv 2106.12368): the model and the table of its variants."""

import dataclasses
import functools
from collections.abc import Sequence

import keras

from keras_mixer.layers import PatchMap, WeightedPermuteMLP
from keras_mixer.models.images import image_input
from keras_mixer.models.pyramid import check_stages, pyramid, pyramid_outputs


def _downsampling(hidden_dim: int, factor: int, name: str):
    """Patches of the feature map, projected to the channels of the next stage."""
    return keras.layers.Conv2D(hidden_dim, factor, strides=factor, kernel_initializer="lecun_normal", name=name)


def VisionPermutator(  # noqa: N802 - a model constructor is named like a class, as in keras.applications
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
) -> keras.Model:
    """Builds a Vision Permutator with random weights; `VisionPermutatorSmall7` and its siblings are published sizes.

    Every block mixes along height, width and channels apart and re-weights the three by the image itself. The table of
    tokens keeps its rows and columns; between stages it may shrink.

    Args:
        layers: Blocks of each stage.
        patch_size: Pixels of a patch, an integer or a pair (height, width).
        hidden_dims: Channels in each stage.
        transitions: For each stage, whether the next one has half the rows and columns; the last entry says nothing.
        segment_dims: Segments of the channels in each stage; in the paper the rows and columns at 224 pixels.
        mlp_ratios: Hidden units of the channel MLPs per channel, in each stage.
        input_shape: Image shape (height, width, channels), each side a multiple of the patch and of the transitions.
        input_tensor: Keras tensor of images to build on, instead of a new input of `input_shape`.
        include_top: Whether to end in the classification head.
        classes: Classes of the head.
        classifier_activation: Activation of the head; None for logits.
        pooling: Without the head: None for the feature maps, "avg" for the mean of the last one, "max" for its maximum.
        stochastic_depth: Probability of dropping the last branch for a sample while training, in [0, 1); it rises
            linearly from 0 at the first branch.
        dropout: Dropout rate inside the channel MLPs, in [0, 1).
        name: Name of the model.

    Returns:
        A functional `keras.Model` from images `(batch, height, width, channels)`, normalised by ImageNet's mean and
        deviation for the published weights, to class scores `(batch, classes)`, pooled features
        `(batch, hidden_dims[-1])`, or a list of feature maps `(batch, rows, columns, channels)`, one for each
        resolution, finest first.

    Raises:
        ValueError: If an argument is out of range, or the patches do not divide the image.

    Example:
        >>> model = keras_mixer.VisionPermutator(
        ...     layers=(1, 1), patch_size=4, hidden_dims=(16, 32), transitions=(True, False), segment_dims=(8, 4),
        ...     mlp_ratios=(3, 3), input_shape=(32, 32, 3), classes=10)
        >>> model(keras.ops.zeros((1, 32, 32, 3))).shape
        (1, 10)
    """
    check_stages(
        layers, hidden_dims=hidden_dims, transitions=transitions, segment_dims=segment_dims, mlp_ratios=mlp_ratios
    )
    downsamplings = [
        _downsampling(hidden_dims[stage + 1], 2 if transitions[stage] else 1, f"downsampling_{stage}")
        if transitions[stage] or hidden_dims[stage] != hidden_dims[stage + 1]
        else None
        for stage in range(len(layers) - 1)
    ]

    images, inputs = image_input(input_shape, input_tensor)
    features = PatchMap(hidden_dims[0], patch_size, name="stem")(images)  # (batch, rows, columns, channels)
    maps = pyramid(
        features,
        layers=layers,
        mixings=[functools.partial(WeightedPermuteMLP, segment_dim) for segment_dim in segment_dims],
        downsamplings=downsamplings,
        mlp_ratios=mlp_ratios,
        stochastic_depth=stochastic_depth,
        dropout=dropout,
    )
    outputs = pyramid_outputs(
        maps,
        include_top=include_top,
        classes=classes,
        classifier_activation=classifier_activation,
        pooling=pooling,
    )
    return keras.Model(inputs, outputs, name=name)


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
VISION_PERMUTATOR_VARIANTS = {
    "vision_permutator_small_14": VisionPermutatorVariant(
        (4, 3, 8, 3), 14, (384, 384, 384, 384), (False, False, False, False), (16, 16, 16, 16)
    ),
    "vision_permutator_small_7": VisionPermutatorVariant(
        (4, 3, 8, 3), 7, (192, 384, 384, 384), (True, False, False, False), (32, 16, 16, 16)
    ),
    "vision_permutator_medium_7": VisionPermutatorVariant(
        (4, 3, 14, 3), 7, (256, 256, 512, 512), (False, True, False, False), (32, 32, 16, 16)
    ),
    "vision_permutator_large_7": VisionPermutatorVariant(
        (8, 8, 16, 4), 7, (256, 512, 512, 512), (True, False, False, False), (32, 16, 16, 16)
    ),
}
