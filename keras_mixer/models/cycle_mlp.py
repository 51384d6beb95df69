"""CycleMLP (Chen et al., 2021, arXiv 2107.10224): the model and the table of its variants."""

import dataclasses
from collections.abc import Sequence

import keras

from keras_mixer.layers import CycleMixing
from keras_mixer.models.images import image_input
from keras_mixer.models.pyramid import Stage, check_stages, pyramid, pyramid_classifier


def _convolution(hidden_dim: int, kernel_size: int, strides: int, padding: int, name: str):
    """A convolution with the same padding at both ends, where Keras's own would put more at the far end."""
    pad = keras.layers.ZeroPadding2D(padding, data_format="channels_last", name=f"{name}_padding")
    convolve = keras.layers.Conv2D(
        hidden_dim,
        kernel_size,
        strides=strides,
        data_format="channels_last",
        kernel_initializer="lecun_normal",
        name=name,
    )
    return lambda features: convolve(pad(features))


def _downsampling(stage: int, hidden_dims: Sequence[int], transitions: Sequence[bool]):
    """What makes the map for the next stage; None where the stage is the last or passes its own on."""
    if stage + 1 == len(hidden_dims):
        return None
    if transitions[stage]:
        return _convolution(hidden_dims[stage + 1], 3, 2, 1, f"downsampling_{stage}")
    if hidden_dims[stage] != hidden_dims[stage + 1]:
        raise ValueError(
            f"CycleMLP changes its channels only where it halves the map: `hidden_dims` goes from "
            f"{hidden_dims[stage]} to {hidden_dims[stage + 1]} after stage {stage}, but `transitions` is "
            f"{tuple(transitions)}."
        )
    return None


def CycleMLP(  # noqa: N802 - a model constructor is named like a class, as in keras.applications
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
) -> keras.Model:
    """Builds a CycleMLP with random weights; `keras_mixer.CycleMLPB1` and its siblings build the published sizes.

    A pyramid at strides 4, 8, 16 and 32 whose spatial mixing reads every channel from a pixel of its own: its cost is
    linear in the number of pixels, and no weight depends on the size of the image, which may be any after building. As
    in the authors' convolutions, a side of 4n + 2 pixels leaves its last row unread; the transitions read odd maps
    whole.

    Args:
        layers: Blocks of each stage.
        hidden_dims: Channels in each stage.
        transitions: For each stage, whether the next one has half the rows and columns; the last entry says nothing.
        mlp_ratios: Hidden units of the channel MLPs per channel, in each stage.
        input_shape: Image shape (height, width, channels); None for a side of any length.
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
        resolution, finest first: for the published sizes at strides 4, 8, 16 and 32.

    Raises:
        ValueError: If an argument is out of range, or the channels change without a transition.

    Example:
        >>> model = keras_mixer.CycleMLPB1(include_top=False)
        >>> [features.shape for features in model(keras.ops.zeros((1, 64, 96, 3)))]
        [(1, 16, 24, 64), (1, 8, 12, 128), (1, 4, 6, 320), (1, 2, 3, 512)]
    """
    check_stages(layers, hidden_dims=hidden_dims, transitions=transitions, mlp_ratios=mlp_ratios)
    stages = [
        Stage(blocks, mlp_ratios[number], CycleMixing, _downsampling(number, hidden_dims, transitions))
        for number, blocks in enumerate(layers)
    ]

    images, inputs = image_input(input_shape, input_tensor)
    features = _convolution(hidden_dims[0], 7, 4, 2, "stem")(images)  # patches that overlap
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
CYCLE_MLP_VARIANTS = {
    "cycle_mlp_b1": CycleMLPVariant((2, 2, 4, 2), (64, 128, 320, 512)),
    "cycle_mlp_b2": CycleMLPVariant((2, 3, 10, 3), (64, 128, 320, 512)),
    "cycle_mlp_b3": CycleMLPVariant((3, 4, 18, 3), (64, 128, 320, 512), mlp_ratios=(8, 8, 4, 4)),
    "cycle_mlp_b4": CycleMLPVariant((3, 8, 27, 3), (64, 128, 320, 512), mlp_ratios=(8, 8, 4, 4)),
    "cycle_mlp_b5": CycleMLPVariant((3, 4, 24, 3), (96, 192, 384, 768)),
}
