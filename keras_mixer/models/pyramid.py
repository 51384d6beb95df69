"""Stages of blocks with downsampling between them, as in Vision Permutator and CycleMLP."""

import dataclasses
from collections.abc import Callable, Sequence

import keras

from keras_mixer.layers import ChannelMLP, LayerNorm
from keras_mixer.layers.helpers import positive_integer
from keras_mixer.models.head import classifier
from keras_mixer.models.residual import linear_rates, residual

LAYER_NORM_EPSILON = 1e-5  # PyTorch's default, as the published weights of both have it; Keras's is 1e-3


@dataclasses.dataclass(frozen=True)
class Stage:
    """Blocks at one resolution.

    Attributes:
        blocks: How many.
        mlp_ratio: Hidden units of their channel MLPs per channel.
        mixing: Makes a block's spatial mixing from its name.
        downsampling: Makes the map for the next stage; None to pass this one's on.
    """

    blocks: int
    mlp_ratio: float
    mixing: Callable
    downsampling: Callable | None


def check_stages(layers: Sequence[int], **arguments: Sequence) -> None:
    """Checks the arguments that have one entry for each stage.

    Raises:
        ValueError: If there is no stage, one has no block, or an argument has another number of entries.
    """
    if not layers:
        raise ValueError("`layers` must list the blocks of one stage at least, but got none.")
    for count in layers:
        positive_integer("layers", count)
    for name, values in arguments.items():
        if len(values) != len(layers):
            raise ValueError(
                f"`{name}` must have one entry for each of the {len(layers)} stages that `layers` lists, "
                f"but got {tuple(values)}."
            )


def pyramid(features, stages: Sequence[Stage], stochastic_depth: float, dropout: float) -> list:
    """Runs the stages.

    Args:
        features: Feature map `(batch, rows, columns, channels)`.
        stages: The stages, finest first; what the last one says of downsampling is not done.
        stochastic_depth: Probability of dropping the last branch.
        dropout: Dropout rate inside the channel MLPs.

    Returns:
        The last feature map of each resolution, finest first.
    """
    rates = iter(linear_rates(2 * sum(stage.blocks for stage in stages), stochastic_depth))
    maps = []
    for number, stage in enumerate(stages):
        for block in range(stage.blocks):
            name = f"stage_{number}_block_{block}"
            features = _block(features, stage, (next(rates), next(rates)), dropout, name)
        if number < len(stages) - 1 and stage.downsampling is not None:
            maps.append(features)
            features = stage.downsampling(features)
    return [*maps, features]


def _block(features, stage: Stage, rates: tuple[float, float], dropout: float, name: str):
    """One block: spatial mixing, then an MLP over channels, each normalised before and skipped around."""
    branch = _norm(f"{name}_norm_0")(features)
    branch = stage.mixing(name=f"{name}_mixing")(branch)
    features = residual(features, branch, rates[0], f"{name}_0")
    branch = _norm(f"{name}_norm_1")(features)
    mlp_dim = int(features.shape[-1] * stage.mlp_ratio)
    branch = ChannelMLP(mlp_dim, dropout=dropout, name=f"{name}_channel_mlp")(branch)
    return residual(features, branch, rates[1], f"{name}_1")


def pyramid_classifier(
    inputs, maps: Sequence, include_top: bool, classes: int, classifier_activation, pooling: str | None, name: str
) -> keras.Model:
    """Ends a model in class scores, pooled features or its feature maps; arguments as of `classifier`.

    The maps are each normalised for a dense-prediction head to sit on. Only the coarsest one's norm has weights, those
    of the classifier: a checkpoint of one then loads whole, and what a scale and shift on the others could do, the
    first linear layer of the dense-prediction head can.

    Returns:
        A model that gives scores `(batch, classes)`, features `(batch, channels)`, or a list of feature maps, finest
        first.
    """
    coarsest = _norm("pre_head_layer_norm")(maps[-1])
    if include_top or pooling is not None:
        return classifier(inputs, coarsest, include_top, classes, classifier_activation, pooling, name)
    finer = [_norm(f"feature_norm_{i}", center=False, scale=False)(features) for i, features in enumerate(maps[:-1])]
    return keras.Model(inputs, [*finer, coarsest], name=name)


def _norm(name: str, **arguments):
    return LayerNorm(epsilon=LAYER_NORM_EPSILON, name=name, **arguments)
