"""Optimizers and learning rates of the recipes.

Keras 3 clips gradients before it sums them over replicas, so that the update depends on how many devices share the
batch. These optimizers sum first. Clipping, decay, moments and averages then use the same gradient as on one device.
"""

import math

import keras
from keras import ops

from keras_mixer.shapes import bounded_integer, positive_integer
from keras_mixer.training.recipe import OptimizerSpec


@keras.saving.register_keras_serializable(package="keras_mixer")
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly from 0 to `peak` over `warmup_steps`, then falls to 0 at `total_steps`.

    Let t be the number of updates made so far, W the warmup and T the total. The rate is `peak * t / W` while t < W.
    After that, with p = (t - W) / (T - W), it is `peak * (1 - p)` for "linear", `peak * (1 + cos(pi p)) / 2` for
    "cosine", and `peak` for "constant". With a warmup, the first update has rate 0, as in the paper's code.

    A constant rate may end with a cooldown of C updates: from t = T - C on, it is `peak * (T - t) / C`. Until then, the
    rate does not depend on T.

    Args:
        peak: Learning rate at the end of the warmup.
        total_steps: Updates of the whole run.
        warmup_steps: Updates of the warmup, fewer than `total_steps`.
        decay: "linear", "cosine" or "constant".
        cooldown_steps: Updates of the cooldown of a constant rate; 0 leaves it out.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> float(keras_mixer.training.WarmupDecay(1.0, total_steps=10, warmup_steps=2, decay="linear")(6))
        0.5
    """

    def __init__(
        self, peak: float, total_steps: int, warmup_steps: int = 0, decay: str = "linear", cooldown_steps: int = 0
    ):
        super().__init__()
        total_steps = positive_integer("total_steps", total_steps)
        warmup_steps = bounded_integer("warmup_steps", warmup_steps)
        cooldown_steps = bounded_integer("cooldown_steps", cooldown_steps)
        if warmup_steps >= total_steps:
            raise ValueError(
                f"`warmup_steps` must be fewer than the run's {total_steps} steps, but got "
                f"{warmup_steps}. Train longer or set schedule.warmup_steps lower."
            )
        if decay not in ("linear", "cosine", "constant"):
            raise ValueError(f"`decay` must be 'linear', 'cosine' or 'constant', but got {decay!r}.")
        if cooldown_steps and decay != "constant":
            raise ValueError(f"`cooldown_steps` ends a constant rate, but `decay` is {decay!r}: set one of them.")
        if cooldown_steps > total_steps - warmup_steps:
            raise ValueError(
                f"`cooldown_steps` must be at most the {total_steps - warmup_steps} steps after the warmup, but got "
                f"{cooldown_steps}."
            )
        self.peak = peak
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.decay = decay
        self.cooldown_steps = cooldown_steps

    def __call__(self, step):
        step = ops.cast(step, "float32")
        progress = ops.clip((step - self.warmup_steps) / (self.total_steps - self.warmup_steps), 0.0, 1.0)
        if self.decay == "linear":
            rate = 1.0 - progress
        elif self.decay == "cosine":
            rate = 0.5 * (1.0 + ops.cos(math.pi * progress))
        elif self.cooldown_steps:
            rate = ops.clip((self.total_steps - step) / self.cooldown_steps, 0.0, 1.0)
        else:
            rate = ops.ones_like(progress)
        if self.warmup_steps:
            rate = rate * ops.minimum(1.0, step / self.warmup_steps)
        return self.peak * rate

    def get_config(self):
        return {
            name: getattr(self, name) for name in ("peak", "total_steps", "warmup_steps", "decay", "cooldown_steps")
        }


def weight_averages(optimizer) -> list:
    """Returns an optimizer's moving averages of the weights, in the order of the model's trainable weights."""
    # Keras writes the averages over the weights instead of giving them away.
    return optimizer._model_variables_moving_average


class _ReduceFirst:
    """Sums gradients over the replicas of a TensorFlow strategy before the optimizer uses them."""

    def apply(self, grads, trainable_variables=None):
        grads = list(grads)
        if _replicas() > 1:
            import tensorflow as tf

            present = [grad for grad in grads if grad is not None]
            summed = iter(tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, present))
            grads = [None if grad is None else next(summed) for grad in grads]
        super().apply(grads, trainable_variables)  # type: ignore[misc]

    def _all_reduce_sum_gradients(self, grads_and_vars):
        # Does nothing, because `apply` has already summed the gradients.
        return list(grads_and_vars)

    def _update_model_variables_moving_average(self, trainable_variables):
        """Updates the moving average on every device. Keras's own method cannot run inside a replica."""
        if _replicas() == 1:
            super()._update_model_variables_moving_average(trainable_variables)  # type: ignore[misc]
            return
        import tensorflow as tf

        first = tf.equal(self.iterations, 0)  # type: ignore[attr-defined]
        momentum = tf.where(first, 0.0, self.ema_momentum)  # type: ignore[attr-defined]
        averages = [average.value for average in weight_averages(self)]
        values = [variable.value for variable in trainable_variables]

        def blend(average, value, momentum):
            average.assign(momentum * average + (1.0 - momentum) * value)

        def blend_all(strategy, averages, values, momentum):
            for average, value in zip(averages, values, strict=True):
                strategy.extended.update(average, blend, args=(value, momentum), group=False)

        strategy = tf.distribute.get_strategy()
        tf.__internal__.distribute.interim.maybe_merge_call(blend_all, strategy, averages, values, momentum)

    def finalize_variable_values(self, var_list):
        """Does not change the weights. `averaged_weights` reads the average when a model is saved or measured."""


@keras.saving.register_keras_serializable(package="keras_mixer")
class AdamW(_ReduceFirst, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` whose `global_clipnorm` applies to the global batch on any number of devices.

    Example:
        >>> optimizer = keras_mixer.training.AdamW(learning_rate=1e-3, weight_decay=0.1, global_clipnorm=1.0)
    """

    def update_step(self, gradient, variable, learning_rate):
        if keras.backend.backend() != "tensorflow" or self.amsgrad:
            super().update_step(gradient, variable, learning_rate)
            return
        import tensorflow as tf

        # The kernel updates a single copy of a variable and takes one dtype.
        if tf.distribute.has_strategy() or not isinstance(gradient, tf.Tensor) or gradient.dtype != variable.dtype:
            super().update_step(gradient, variable, learning_rate)
            return
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, variable.dtype)
        rate, beta_1, beta_2, epsilon = (
            tf.cast(number, variable.dtype) for number in (learning_rate, self.beta_1, self.beta_2, self.epsilon)
        )
        # The same formula in one pass over the weights instead of a dozen.
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=beta_1**step,
            beta2_power=beta_2**step,
            lr=rate,
            beta1=beta_1,
            beta2=beta_2,
            epsilon=epsilon,
            grad=gradient,
        )


@keras.saving.register_keras_serializable(package="keras_mixer")
class SGD(_ReduceFirst, keras.optimizers.SGD):
    """`keras.optimizers.SGD` whose `global_clipnorm` applies to the global batch on any number of devices.

    Example:
        >>> optimizer = keras_mixer.training.SGD(learning_rate=0.01, momentum=0.9, global_clipnorm=1.0)
    """


@keras.saving.register_keras_serializable(package="keras_mixer")
class Muon(_ReduceFirst, keras.optimizers.Muon):
    """`keras.optimizers.Muon` whose `global_clipnorm` applies to the global batch on any number of devices.

    Matrices are updated by orthogonalised steps, which are scaled so that AdamW's learning rates and decays suit them
    (arXiv 2502.16982). All other weights, and the layers in `exclude_layers`, are updated as by AdamW.

    Example:
        >>> optimizer = keras_mixer.training.Muon(learning_rate=1e-3, exclude_layers=["head"])
    """


def make_optimizer(
    spec: OptimizerSpec, learning_rate, model: keras.Model, ema_momentum: float | None = None
) -> keras.optimizers.Optimizer:
    """Builds the optimizer of a recipe, with its variables, for `model`. Raises ValueError for an unknown name.

    Weight decay is decoupled and multiplied by the scheduled learning rate, `w -= lr(t) * decay * w`, as in the
    paper's code: rate 0.001 with decay 0.1 equals the decay of 1e-4 in the paper's configuration for ImageNet.
    Only kernels decay.
    """
    common = {
        "learning_rate": learning_rate,
        "global_clipnorm": spec.global_clipnorm,
        "use_ema": ema_momentum is not None,
        "ema_momentum": 0.99 if ema_momentum is None else ema_momentum,
    }
    optimizer: keras.optimizers.Optimizer
    if spec.name == "adamw":
        optimizer = AdamW(
            beta_1=spec.beta_1, beta_2=spec.beta_2, epsilon=spec.epsilon, weight_decay=spec.weight_decay, **common
        )
    elif spec.name == "sgd":
        # None instead of 0.0, because with 0.0 Keras would loop over all weights and change nothing.
        optimizer = SGD(momentum=spec.momentum, weight_decay=spec.weight_decay or None, **common)
    elif spec.name == "muon":
        optimizer = Muon(
            adam_beta_1=spec.beta_1,
            adam_beta_2=spec.beta_2,
            epsilon=spec.epsilon,
            momentum=spec.momentum,
            weight_decay=spec.weight_decay,
            adam_weight_decay=spec.weight_decay,
            exclude_layers=["^head/"],
            **common,
        )
    else:
        raise ValueError(f"`optimizer.name` must be 'adamw', 'muon' or 'sgd', but got {spec.name!r}.")
    optimizer.exclude_from_weight_decay(var_list=[v for v in model.trainable_variables if v.name != "kernel"])
    optimizer.build(model.trainable_variables)
    return optimizer


def _replicas() -> int:
    """Returns how many replicas run this step together; 1 outside a replica."""
    if keras.backend.backend() != "tensorflow":
        return 1  # on JAX, a single program computes the gradient of the global batch
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync
