"""Five training steps on devices of several kinds, from the same weights on the same batches."""

import dataclasses

import numpy as np

STEPS, BATCH, CLASSES = 5, 16, 5


def five_steps(cases: list[str]) -> dict[str, np.ndarray]:
    """Trains each case, written `name:strategy:FIELD=VALUE:...`; returns loss, accuracy and weights as `name/what`."""
    import keras
    import tensorflow as tf

    from keras_mixer import Mixer
    from keras_mixer.training.devices.distribution import choose
    from keras_mixer.training.loop.step import training_model
    from keras_mixer.training.recipe import ExecutionSpec, ModelSpec, OptimizerSpec, Recipe, ScheduleSpec

    random = np.random.default_rng(0)
    images = random.normal(size=(STEPS * BATCH, 16, 16, 3)).astype("float32")
    labels = np.eye(CLASSES, dtype="float32")[random.integers(0, CLASSES, STEPS * BATCH)]
    recipe = Recipe(
        name="five_steps",
        model=ModelSpec(),
        # Low enough to act at each step: the test checks that it does.
        optimizer=OptimizerSpec(name="adamw", learning_rate=1e-3, weight_decay=0.1, global_clipnorm=0.05),
        schedule=ScheduleSpec(steps=10, warmup_steps=2, decay="linear"),
        batch_size=BATCH,
        label_smoothing=0.1,
        ema_momentum=0.9,
    )
    keras.utils.set_random_seed(0)  # the processes of JAX refuse variables that begin with different values
    arrays = {}
    for case in cases:
        name, strategy, *settings = case.split(":")
        changes = dict(setting.split("=") for setting in settings)
        execution = {field: value for field, value in changes.items() if hasattr(recipe.execution, field)}
        execution = {
            field: value == "true" if field == "jit_compile" else int(value) for field, value in execution.items()
        }
        clipnorm = float(changes.get("clip", recipe.optimizer.global_clipnorm))
        optimizer = dataclasses.replace(recipe.optimizer, global_clipnorm=clipnorm)
        chosen = dataclasses.replace(
            recipe, execution=ExecutionSpec(strategy=strategy, **execution), optimizer=optimizer
        )
        distribution = choose(strategy)
        with distribution.active(), distribution.scope():
            network = Mixer(
                num_blocks=1,
                patch_size=4,
                hidden_dim=16,
                tokens_mlp_dim=8,
                channels_mlp_dim=32,
                input_shape=(16, 16, 3),
                classes=CLASSES,
                classifier_activation=None,
            )
            start = np.random.default_rng(1)
            network.set_weights(
                [
                    weight + start.normal(scale=0.1, size=weight.shape).astype("float32")
                    for weight in network_like(network)
                ]
            )
            model = training_model(network, chosen, 10, distribution)
        with distribution.active():
            batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(BATCH, drop_remainder=True)
            batches = distribution.distribute(distribution.share(batches))
            history = model.fit(batches, epochs=1, steps_per_epoch=STEPS, shuffle=False, verbose=0).history
        arrays[f"{name}/loss"] = np.array(history["loss"])
        arrays[f"{name}/accuracy"] = np.array(history["accuracy"])
        for group, variables in (
            ("weight", network.trainable_variables),
            ("average", model.optimizer._model_variables_moving_average),
        ):
            for weight, variable in zip(network.trainable_variables, variables, strict=True):
                arrays[f"{name}/{group}/{weight.path}"] = keras.ops.convert_to_numpy(variable.value)
    return arrays


def draws(distribution) -> np.ndarray:
    """Which of 64 samples stochastic depth keeps, by the replicas of the distribution, then on one device."""
    import keras
    import tensorflow as tf

    from keras_mixer.layers import StochasticDepth
    from keras_mixer.training.loop.step_tensorflow import TensorFlowTrainingModel

    def model():
        inputs = keras.Input((1,))
        return TensorFlowTrainingModel(keras.Model(inputs, StochasticDepth(0.5, seed=7)(inputs)))

    with distribution.scope():
        shared = model()

    def on_replica():
        return shared(tf.ones((64, 1)), training=True)

    step = tf.function(distribution.strategy.run, autograph=False)
    kept = distribution.strategy.experimental_local_results(step(on_replica))
    return np.stack([*kept, model()(tf.ones((64, 1)), training=True)])[..., 0] > 0


def network_like(network) -> list[np.ndarray]:
    """Ones for LayerNorm's gamma, zeros for the rest: the same on every backend."""
    return [np.full(weight.shape, float(weight.name == "gamma"), "float32") for weight in network.weights]
