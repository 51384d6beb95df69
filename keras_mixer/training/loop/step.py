"""The model that is trained: the step of each backend, compilation, and evaluation with averaged weights."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import keras

from keras_mixer.training.devices.distribution import Distribution
from keras_mixer.training.distillation import DistillationLoss, Teacher
from keras_mixer.training.optimizers import WarmupDecay, make_optimizer, weight_averages
from keras_mixer.training.recipe import Recipe

if TYPE_CHECKING:
    from keras_mixer.data.device import DeviceStream


class BalancedCrossentropy(keras.losses.CategoricalCrossentropy):
    """Softmax cross-entropy in which all classes count equally. The mean weight of the training images is 1.

    Args:
        counts: Number of training images of each class.
        options: Arguments of `keras.losses.CategoricalCrossentropy`.
    """

    def __init__(self, counts: Sequence[int], **options):
        super().__init__(**options)
        present = sum(count > 0 for count in counts)
        self.weights = [sum(counts) / (present * count) if count else 0.0 for count in counts]

    def call(self, y_true, y_pred):
        weights = keras.ops.sum(y_true * keras.ops.cast(self.weights, y_true.dtype), axis=-1)
        return super().call(y_true, y_pred) * weights


def training_model(
    model: keras.Model,
    recipe: Recipe,
    total_steps: int,
    distribution: Distribution,
    class_counts: Sequence[int] | None = None,
    stream: "DeviceStream | None" = None,
    teacher: Teacher | None = None,
) -> keras.Model:
    """Compiles `model` for training by `recipe`. Call this in the scope of the distribution.

    The loss is the softmax cross-entropy, averaged over the global batch and computed in float32.

    Args:
        model: A functional classifier that ends in logits `(batch, classes)`.
        recipe: The recipe, which sets optimizer, schedule, loss and compilation.
        total_steps: Updates of the whole run.
        distribution: The devices.
        class_counts: Number of training images of each class, if the recipe weights classes.
        stream: The batches, if the device augments them.
        teacher: The teacher, if the recipe has one.

    Returns:
        A compiled model that shares the layers of `model`. Its `fit` takes batches `(images, one-hot labels)`, or those
        of the stream.
    """
    spec = recipe.execution
    compiled = distribution.compile_options(spec.jit_compile)
    trained: keras.Model
    if keras.backend.backend() == "jax":
        from keras_mixer.training.loop.step_jax import JaxTrainingModel

        trained = JaxTrainingModel(model, spec.micro_batches, stream, teacher)
    else:
        from keras_mixer.training.loop.step_tensorflow import TensorFlowTrainingModel

        trained = TensorFlowTrainingModel(
            model,
            spec.micro_batches,
            teacher,
            compile_gradients=compiled["gradients"],
            compile_elementwise=compiled["elementwise"],
        )
    options: dict[str, Any] = {"from_logits": True, "label_smoothing": recipe.label_smoothing}
    schedule = recipe.schedule
    rate = WarmupDecay(
        recipe.optimizer.learning_rate, total_steps, schedule.warmup_steps, schedule.decay, schedule.cooldown_steps
    )
    loss: keras.losses.Loss
    if recipe.class_weights is None or class_counts is None:
        loss = keras.losses.CategoricalCrossentropy(**options)
    else:
        loss = BalancedCrossentropy(class_counts, **options)
    if teacher is not None:
        loss = DistillationLoss(loss, recipe.distillation.weight, recipe.distillation.temperature)
    trained.compile(
        optimizer=make_optimizer(recipe.optimizer, rate, model, recipe.ema_momentum),
        loss=loss,
        # Weighted metrics, because the padding of the last evaluation batch must not count.
        weighted_metrics=[
            keras.metrics.CategoricalAccuracy(name="accuracy"),
            keras.metrics.CategoricalCrossentropy(name="cross_entropy", from_logits=True),
        ],
        steps_per_execution=spec.steps_per_execution,
        jit_compile=compiled["whole_step"],
    )
    return trained


def evaluate(model: keras.Model, batches, steps: int) -> dict[str, float]:
    """Measures accuracy and cross-entropy over `steps` batches, with the averaged weights if there are any."""
    steps_per_execution, model.steps_per_execution = model.steps_per_execution, 1
    try:
        with averaged_weights(model):
            return model.evaluate(batches, steps=steps, verbose=0, return_dict=True)
    finally:
        model.steps_per_execution = steps_per_execution


@contextlib.contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Replaces the model's weights by their moving averages within the context, if the optimizer keeps averages."""
    if not model.optimizer.use_ema:
        yield
        return
    variables = model.trainable_variables
    own = [keras.ops.convert_to_numpy(variable.value) for variable in variables]
    for variable, average in zip(variables, weight_averages(model.optimizer), strict=True):
        variable.assign(keras.ops.convert_to_numpy(average.value))
    try:
        yield
    finally:
        for variable, value in zip(variables, own, strict=True):
            variable.assign(value)
