"""Distillation (Hinton, Vinyals and Dean, 2015, arXiv 1503.02531): a trained teacher's scores are targets too.

A step appends the teacher's logits to the one-hot labels, so that targets are `(batch, 2 * classes)` during training.
"""

import dataclasses

import keras
from keras import ops

from keras_mixer.preprocessing import Preprocessing


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A frozen model whose logits the student learns. Neither the student nor its checkpoints contain it.

    Attributes:
        model: From images `(batch, height, width, channels)` to logits `(batch, classes)`.
        preprocessing: The range of the images that the model takes.
        student: The range of the images that it is given.
    """

    model: keras.Model
    preprocessing: Preprocessing
    student: Preprocessing

    @property
    def weights(self) -> tuple[list, list]:
        """The values of the trainable and the other variables."""
        model = self.model
        return [v.value for v in model.trainable_variables], [v.value for v in model.non_trainable_variables]

    def targets(self, images, labels, weights: tuple[list, list] | None = None):
        """Appends the logits for the student's images to the labels. JAX gives the weights as arguments of its step."""
        images = self._scaled(images)
        if weights is None:
            logits = self.model(images, training=False)
        else:
            logits, _ = self.model.stateless_call(*weights, images, training=False)
        return ops.concatenate([labels, ops.stop_gradient(ops.cast(logits, labels.dtype))], axis=-1)

    def _scaled(self, images):
        given, wanted = (
            [ops.convert_to_tensor(value, "float32") for value in (range_.mean, range_.std)]
            for range_ in (self.student, self.preprocessing)
        )
        return (images * given[1] + given[0] - wanted[0]) / wanted[1]


class DistillationLoss(keras.losses.Loss):
    """`(1 - weight) * loss(labels, scores) + weight * T^2 * KL(softmax(teacher / T) || softmax(scores / T))`.

    T is the temperature. The factor T^2 makes up for it, because it divides the gradient by T^2. Targets without a
    teacher's logits, as in evaluation, have the loss alone.
    """

    def __init__(self, loss: keras.losses.Loss, weight: float, temperature: float):
        super().__init__(name=loss.name)
        self.loss, self.weight, self.temperature = loss, weight, temperature

    def call(self, y_true, y_pred):
        labels, teacher = divided(y_true, y_pred)
        hard = self.loss.call(labels, y_pred)
        if not teacher.shape[-1]:
            return hard
        given, learned = (
            ops.log_softmax(ops.cast(logits, "float32") / self.temperature, axis=-1) for logits in (teacher, y_pred)
        )
        divergence = ops.sum(ops.exp(given) * (given - learned), axis=-1)
        return (1.0 - self.weight) * hard + self.weight * self.temperature**2 * divergence


def divided(targets, scores):
    """Divides targets into the labels and the teacher's logits. Without a teacher, the second part has no columns."""
    classes = scores.shape[-1]
    return targets[:, :classes], targets[:, classes:]
