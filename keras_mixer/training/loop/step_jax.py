"""The training step on the JAX backend: Keras's own, or one that processes the batch in parts."""

import jax
import keras


class JaxTrainingModel(keras.Model):
    """A model whose `fit` divides the batch into `micro_batches` parts and applies the mean of their gradients once.

    It shares the layers of the model that it wraps. One program runs over all devices of a `keras.distribution`, so the
    loss is the mean over the global batch, and the gradient of the global batch is clipped. The batch must be divisible
    by `micro_batches`, and each part by the number of devices.
    """

    def __init__(self, model: keras.Model, micro_batches: int = 1, **kwargs):
        super().__init__(inputs=model.inputs, outputs=model.outputs, name=model.name, **kwargs)
        self.micro_batches = micro_batches

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
        scores = jax.numpy.swapaxes(scores, 0, 1).reshape(targets.shape)

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
