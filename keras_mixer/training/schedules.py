"""Learning rates of the recipes: linear warmup, then linear or cosine decay to zero."""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_mixer")
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly from 0 to `peak` over `warmup_steps`, then falls to 0 at `total_steps`.

    With t the number of updates made so far, W the warmup and T the total: `peak * t / W` while t < W; after that,
    with p = (t - W) / (T - W), `peak * (1 - p)` for "linear", `peak * (1 + cos(pi p)) / 2` for "cosine", `peak` for
    "constant". The first update of a warmed-up run has rate 0, as in the paper's code.

    Args:
        peak: Learning rate at the end of the warmup.
        total_steps: Updates of the whole run.
        warmup_steps: Updates of the warmup, fewer than `total_steps`.
        decay: "linear", "cosine" or "constant".

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> float(keras_mixer.training.WarmupDecay(1.0, total_steps=10, warmup_steps=2, decay="linear")(6))
        0.5
    """

    def __init__(self, peak: float, total_steps: int, warmup_steps: int = 0, decay: str = "linear"):
        super().__init__()
        if total_steps < 1:
            raise ValueError(f"`total_steps` must be at least 1, but got {total_steps}.")
        if not 0 <= warmup_steps < total_steps:
            raise ValueError(
                f"`warmup_steps` must be at least 0 and fewer than the run's {total_steps} steps, but got "
                f"{warmup_steps}. Train longer or set schedule.warmup_steps lower."
            )
        if decay not in ("linear", "cosine", "constant"):
            raise ValueError(f"`decay` must be 'linear', 'cosine' or 'constant', but got {decay!r}.")
        self.peak = peak
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.decay = decay

    def __call__(self, step):
        step = ops.cast(step, "float32")
        progress = (step - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        progress = ops.clip(progress, 0.0, 1.0)
        if self.decay == "linear":
            rate = 1.0 - progress
        elif self.decay == "cosine":
            rate = 0.5 * (1.0 + ops.cos(math.pi * progress))
        else:
            rate = ops.ones_like(progress)
        if self.warmup_steps:
            rate = rate * ops.minimum(1.0, step / self.warmup_steps)
        return self.peak * rate

    def get_config(self):
        return {
            "peak": self.peak,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "decay": self.decay,
        }
