"""Residual branches and the rates at which they are dropped."""

import keras

from keras_mixer.layers import StochasticDepth
from keras_mixer.layers.helpers import rate_below_one


def linear_rates(count: int, last: float) -> list[float]:
    """Returns rates that rise linearly from 0 at the first of `count` branches to `last` at the last."""
    last = rate_below_one("stochastic_depth", last)
    return [last * index / (count - 1) if count > 1 else last for index in range(count)]


def residual(inputs, branch, rate: float, name: str):
    """Returns `inputs + branch`, the branch dropped for a sample with probability `rate` while training.

    The layers are `{name}_stochastic_depth`, only where a branch is ever dropped, and `{name}_add`.
    """
    if rate > 0:
        branch = StochasticDepth(rate, name=f"{name}_stochastic_depth")(branch)
    return keras.layers.Add(name=f"{name}_add")([inputs, branch])
