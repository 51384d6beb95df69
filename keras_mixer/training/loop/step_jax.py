"""The training step on the JAX backend: Keras's own, or one that processes the batch in parts."""

import functools
from collections.abc import Callable

import jax
import keras

from keras_mixer.data.device import DeviceStream
from keras_mixer.training.distillation import Teacher, divided


class JaxTrainingModel(keras.Model):
    """A model whose `fit` divides the batch into `micro_batches` parts and applies the mean of their gradients once.

    It shares the layers of the model that it wraps. One program runs over all devices of a `keras.distribution`, so the
    loss is the mean over the global batch, and clipping sees the gradient of the global batch. `micro_batches` must
    divide the batch, and the devices must divide each part. With a `stream`, `fit` takes its batches, and the step
    makes images and labels of them. With a `teacher`, the step adds its logits to the labels.
    """

    def __init__(
        self,
        model: keras.Model,
        micro_batches: int = 1,
        stream: DeviceStream | None = None,
        teacher: Teacher | None = None,
        **kwargs,
    ):
        super().__init__(inputs=model.inputs, outputs=model.outputs, name=model.name, **kwargs)
        self.train_function: Callable | None = None
        self.micro_batches = micro_batches
        self.stream = stream
        self.teacher = teacher

    def make_train_function(self, force=False):
        if self.train_function is not None and not force:
            return
        stream, teacher = self.stream, self.teacher
        if stream is None and teacher is None:
            super().make_train_function(force=force)
            return
        distribution = keras.distribution.distribution()
        in_memory = None if stream is None else stream.in_memory
        if distribution is None:
            shardings, in_memory = None, jax.device_put(in_memory)
        else:
            shardings = (None, self._get_state_sharding_spec())
            everywhere = jax.sharding.NamedSharding(distribution.device_mesh.backend_mesh, jax.sharding.PartitionSpec())
            # Not `device_put`, by which several processes would compare the dataset over the network.
            in_memory = jax.tree.map(functools.partial(jax.make_array_from_process_local_data, everywhere), in_memory)

        def step(state, data, in_memory, weights):
            if stream is not None:
                data = stream.finish(data[0], in_memory)
            if teacher is not None:
                images, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
                data = (images, teacher.targets(images, labels, weights))
            return self.train_step(state, data)

        compiled = jax.jit(step, donate_argnums=0, out_shardings=shardings)
        # Dataset and teacher are arguments, because the compiler would take minutes over constants of their size.
        fixed = (in_memory, None if teacher is None else teacher.weights)
        self.train_function = self._make_function(lambda state, data: compiled(state, data, *fixed))

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return super().compute_metrics(x, divided(y, y_pred)[0], y_pred, sample_weight)

    def _symbolic_build(self, iterator=None, data_batch=None):
        """Builds loss and metrics from the declared shapes, because a batch of a stream is not what the model takes."""
        if data_batch is None:
            images = keras.KerasTensor((1, *self.inputs[0].shape[1:]), self.inputs[0].dtype)
            data_batch = (images, keras.KerasTensor((1, *self.outputs[0].shape[1:]), "float32"), None)
        super()._symbolic_build(data_batch=data_batch)

    def train_step(self, state, data):
        if self.micro_batches == 1:
            return super().train_step(state, data)
        trainable, non_trainable, optimizer, metrics = state
        images, targets, _ = keras.utils.unpack_x_y_sample_weight(data)
        gradient_of = jax.value_and_grad(self.compute_loss_and_updates, has_aux=True)

        def add_part(carried, part):
            sums, loss_sum, non_trainable = carried
            (loss, (_, scores, non_trainable, _)), gradients = gradient_of(
                trainable, non_trainable, metrics, *part, None, training=True, optimizer_variables=optimizer
            )
            sums = [total + gradient for total, gradient in zip(sums, gradients, strict=True)]
            return (sums, loss_sum + loss, non_trainable), scores

        start = ([jax.numpy.zeros_like(value) for value in trainable], 0.0, non_trainable)
        parts = (_split(images, self.micro_batches), _split(targets, self.micro_batches))
        (sums, loss_sum, non_trainable), scores = jax.lax.scan(add_part, start, parts)
        scores = jax.numpy.swapaxes(scores, 0, 1).reshape(targets.shape[0], -1)

        gradients = [total / self.micro_batches for total in sums]
        trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
        logs, metrics = self._update_metrics_variables(
            metrics, loss_sum / self.micro_batches, images, targets, scores, None
        )
        return logs, (trainable, non_trainable, optimizer, metrics)


def _split(batch, parts: int):
    """Splits (batch, ...) to (parts, batch / parts, ...); example i goes to part i mod parts.

    Each part then contains examples from every device's share of the batch, so that all devices work on it.
    """
    return jax.numpy.swapaxes(batch.reshape(batch.shape[0] // parts, parts, *batch.shape[1:]), 0, 1)
