"""Which token mixing a block has: the paper's, or a variant of its appendix A."""

from keras_mixer.layers.checks import positive_integer
from keras_mixer.layers.grouped_token_mixing import GROUPINGS, GroupedTokenMixing
from keras_mixer.layers.mixing import TokenMixing
from keras_mixer.layers.untied_token_mixing import UntiedTokenMixing


def token_mixing(mlp_dim: int, *, untied: bool, channel_groups: int, grouping: str, **arguments) -> TokenMixing:
    """Returns the layer, named as in the official checkpoints.

    Args:
        mlp_dim: Hidden units of the MLP, D_S in the paper.
        untied: Whether every channel has an MLP of its own.
        channel_groups: Channels that the MLP sees at once.
        grouping: How they are joined: "concat" or "project".
        **arguments: What all of them take.

    Raises:
        ValueError: If an argument is out of range, or the layer is to be untied and grouped.
    """
    groups = positive_integer("channel_groups", channel_groups)
    if grouping not in GROUPINGS:
        raise ValueError(f"`grouping` must be one of {', '.join(GROUPINGS)}, but got {grouping!r}.")
    if untied and (groups > 1 or grouping == "project"):
        raise ValueError("`untied` and `channel_groups` exclude each other: leave one of them at its default.")
    if untied:
        return UntiedTokenMixing(mlp_dim, name="token_mixing", **arguments)
    if groups > 1 or grouping == "project":
        return GroupedTokenMixing(mlp_dim, groups, grouping, name="token_mixing", **arguments)
    return TokenMixing(mlp_dim, name="token_mixing", **arguments)
