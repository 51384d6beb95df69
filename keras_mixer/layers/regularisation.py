"""Stochastic depth: training drops the whole residual branch of some samples."""

import keras
from keras import ops

from keras_mixer.layers.base import PlainLayer
from keras_mixer.shapes import rate_below_one


@keras.saving.register_keras_serializable(package="keras_mixer")
class StochasticDepth(PlainLayer):
    """Drops the residual branch of each sample with probability `rate` while training.

    The remaining branches are divided by `1 - rate`. This keeps the expected value, so that inference does not need a
    correction. See Huang et al., 2016 (arXiv 1603.09382). Table 4 of the Mixer paper lists the rates that it uses.

    Args:
        rate: Probability that a sample's branch is dropped, in [0, 1).
        seed: Integer seed of the random draws, or None for a random one.

    Input and output shape: `(batch, ...)`.

    Raises:
        ValueError: If `rate` is not in [0, 1).

    Example:
        >>> branch = keras.ops.ones((4, 16, 32))
        >>> keras_mixer.layers.StochasticDepth(0.5)(branch, training=True)  # each of the 4 samples is all 0 or all 2
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate_below_one("rate", rate)
        self.seed = seed
        # A layer that never draws does not get a generator, because its state would be saved with the model.
        self.seed_generator = keras.random.SeedGenerator(seed) if self.rate > 0 else None
        self.built = True

    def call(self, branch, training=None):
        if not training or self.rate == 0.0:
            return branch
        one_per_sample = (ops.shape(branch)[0],) + (1,) * (len(branch.shape) - 1)
        # Drawn in float32, because the 8 bits of a bfloat16 draw are too coarse for a small rate.
        draws = keras.random.uniform(one_per_sample, dtype="float32", seed=self.seed_generator)
        keep = ops.cast(draws >= self.rate, branch.dtype)
        return branch * keep / ops.cast(1.0 - self.rate, branch.dtype)
