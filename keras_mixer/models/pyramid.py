"""Stages of blocks with downsampling between them, as in Vision Permutator and CycleMLP."""

from collections.abc import Callable, Sequence

from keras_mixer.layers import ChannelMLP, LayerNorm
from keras_mixer.layers.checks import positive_integer
from keras_mixer.models.head import classifier
from keras_mixer.models.residual import linear_rates, residual

LAYER_NORM_EPSILON = 1e-5  # PyTorch's default, as the published weights of both have it; Keras's is 1e-3


def check_stages(layers: Sequence[int], **arguments: Sequence) -> None:
    """Checks the arguments that have one entry for each stage.

    Raises:
        ValueError: If one has another number of entries, or a stage has no block.
    """
    for count in layers:
        positive_integer("layers", count)
    for name, values in arguments.items():
        if len(values) != len(layers):
            raise ValueError(
                f"`{name}` must have one entry for each of the {len(layers)} stages that `layers` lists, "
                f"but got {tuple(values)}."
            )


def _block(features, *, mixing, mlp_dim: int, rates: tuple[float, float], dropout: float, name: str):
    """One block: spatial mixing, then an MLP over channels, each normalised before and skipped around."""
    branch = _norm(f"{name}_norm_0")(features)
    branch = mixing(name=f"{name}_mixing")(branch)
    features = residual(features, branch, rates[0], f"{name}_0")
    branch = _norm(f"{name}_norm_1")(features)
    branch = ChannelMLP(mlp_dim, dropout=dropout, name=f"{name}_channel_mlp")(branch)
    return residual(features, branch, rates[1], f"{name}_1")


def pyramid(
    features,
    *,
    layers: Sequence[int],
    mixings: Sequence[Callable],
    downsamplings: Sequence[Callable | None],
    mlp_ratios: Sequence[float],
    stochastic_depth: float,
    dropout: float,
) -> list:
    """Runs the stages.

    Args:
        features: Feature map `(batch, rows, columns, channels)`.
        layers: Blocks of each stage.
        mixings: For each stage, what makes a block's spatial mixing.
        downsamplings: For each stage but the last, what makes the map for the next one, None to pass it on.
        mlp_ratios: For each stage, hidden units of its channel MLPs per channel.
        stochastic_depth: Probability of dropping the last branch.
        dropout: Dropout rate inside the channel MLPs.

    Returns:
        The last feature map of each resolution, finest first.
    """
    rates = iter(linear_rates(2 * sum(layers), stochastic_depth))
    maps = []
    for stage, blocks in enumerate(layers):
        for block in range(blocks):
            features = _block(
                features,
                mixing=mixings[stage],
                mlp_dim=int(features.shape[-1] * mlp_ratios[stage]),
                rates=(next(rates), next(rates)),
                dropout=dropout,
                name=f"stage_{stage}_block_{block}",
            )
        if stage == len(layers) - 1:
            maps.append(features)
            break
        downsampling = downsamplings[stage]
        if downsampling is not None:
            maps.append(features)
            features = downsampling(features)
    return maps


def pyramid_outputs(maps: Sequence, *, include_top: bool, pooling: str | None, **head):
    """Ends a model in class scores, pooled features or its feature maps.

    The maps are each normalised for a dense-prediction head to sit on. Only the coarsest one's norm has weights, those
    of the classifier: a checkpoint of one then loads whole, and what a scale and shift on the others could do, the
    first linear layer of the dense-prediction head can.

    Returns:
        Scores `(batch, classes)`, features `(batch, channels)`, or a list of feature maps, finest first.
    """
    coarsest = _norm("pre_head_layer_norm")(maps[-1])
    if include_top or pooling is not None:
        return classifier(coarsest, include_top=include_top, pooling=pooling, **head)
    finer = [_norm(f"feature_norm_{i}", center=False, scale=False)(features) for i, features in enumerate(maps[:-1])]
    return [*finer, coarsest]


def _norm(name: str, **arguments):
    return LayerNorm(epsilon=LAYER_NORM_EPSILON, name=name, **arguments)
