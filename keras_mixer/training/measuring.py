"""Evaluation during and after a run, by the averaged weights where there are any."""

import keras
import numpy as np

from keras_mixer.training.callbacks import Clock
from keras_mixer.training.checkpoints import restore_metrics


class Evaluation(keras.callbacks.Callback):
    """Evaluates after each period, with the averaged weights if there are any, and keeps the history.

    Args:
        batches: Evaluation batches `(images, one-hot labels, weights)`, all of one size.
        steps: Number of evaluation batches.
        clock: Counts the updates.
        steps_per_epoch: Updates in one pass over the training split.
        rows: The history so far, added to in place.
        metrics: Running metrics of a period that was cut short, by name; used once.
    """

    def __init__(self, batches, steps: int, clock: Clock, steps_per_epoch: float, rows: list[dict], metrics: dict):
        super().__init__()
        self._batches = batches
        self._steps = steps
        self._clock = clock
        self._steps_per_epoch = steps_per_epoch
        self._rows = rows
        self._metrics = metrics

    def on_epoch_begin(self, epoch, logs=None):
        if self._metrics:
            restore_metrics(self.model, self._metrics)
            self._metrics = {}

    def on_epoch_end(self, epoch, logs=None):
        measured = evaluate(self.model, self._batches, self._steps)
        logs.pop("cross_entropy")
        logs["val_loss"], logs["val_accuracy"] = measured["cross_entropy"], measured["accuracy"]
        # The rate of the last update, which the optimizer's counter has passed by one.
        rate = self.model.optimizer._learning_rate(self._clock.step - 1)
        logs["learning_rate"] = float(keras.ops.convert_to_numpy(rate))
        self._rows.append(
            {
                "step": self._clock.step,
                "epoch": round(self._clock.step / self._steps_per_epoch, 4),
                **{name: float(value) for name, value in logs.items()},
                "seconds": round(self._clock.seconds, 3),
            }
        )


def evaluate(model: keras.Model, batches, steps: int) -> dict[str, float]:
    """Returns accuracy and cross-entropy over `steps` batches, by the averaged weights if the optimizer keeps them."""
    steps_per_execution, model.steps_per_execution = model.steps_per_execution, 1
    try:
        with averaged_weights(model):
            return model.evaluate(batches, steps=steps, verbose=0, return_dict=True)
    finally:
        model.steps_per_execution = steps_per_execution


class averaged_weights:  # noqa: N801 - a context manager reads like a function
    """Context in which the model has the moving averages of its weights, where the optimizer keeps them."""

    def __init__(self, model: keras.Model):
        self._model = model
        self._own: list[np.ndarray] = []

    def __enter__(self):
        optimizer = self._model.optimizer
        if optimizer.use_ema:
            self._own = [keras.ops.convert_to_numpy(variable.value) for variable in self._model.trainable_variables]
            averages = optimizer._model_variables_moving_average
            for variable, average in zip(self._model.trainable_variables, averages, strict=True):
                variable.assign(keras.ops.convert_to_numpy(average.value))

    def __exit__(self, *_):
        for variable, value in zip(self._model.trainable_variables, self._own, strict=False):
            variable.assign(value)
