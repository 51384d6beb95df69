"""From a model to one whose `fit` runs on every device: choice of the training step, and compilation."""

import keras

from keras_mixer.training.distribution import Distribution
from keras_mixer.training.optimizers import make_optimizer
from keras_mixer.training.recipe import Recipe
from keras_mixer.training.schedules import WarmupDecay


def training_model(model: keras.Model, recipe: Recipe, total_steps: int, distribution: Distribution) -> keras.Model:
    """Compiles `model` for training by `recipe`; call it in the scope of the distribution.

    The loss is the softmax cross-entropy, averaged over the global batch and computed in float32.

    Args:
        model: A functional classifier that ends in logits `(batch, classes)`.
        recipe: The recipe.
        total_steps: Updates of the whole run.
        distribution: The devices.

    Returns:
        A compiled model with the layers of `model`, whose `fit` takes batches `(images, one-hot labels)`.
    """
    spec = recipe.execution
    compiled = distribution.compile_options(spec.jit_compile)
    trained: keras.Model
    if keras.backend.backend() == "jax":
        from keras_mixer.training.step_jax import JaxTrainingModel

        trained = JaxTrainingModel(model, spec.micro_batches)
    else:
        from keras_mixer.training.step_tensorflow import TensorFlowTrainingModel

        trained = TensorFlowTrainingModel(
            model,
            spec.micro_batches,
            compile_gradients=compiled["gradients"],
            compile_elementwise=compiled["elementwise"],
        )
    schedule = recipe.schedule
    rate = WarmupDecay(recipe.optimizer.learning_rate, total_steps, schedule.warmup_steps, schedule.decay)
    trained.compile(
        optimizer=make_optimizer(recipe.optimizer, rate, model, recipe.ema_momentum),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing),
        # Weighted, so that the padding of the last evaluation batch counts for nothing.
        weighted_metrics=[
            keras.metrics.CategoricalAccuracy(name="accuracy"),
            keras.metrics.CategoricalCrossentropy(name="cross_entropy", from_logits=True),
        ],
        steps_per_execution=spec.steps_per_execution,
        jit_compile=compiled["whole_step"],
    )
    return trained
