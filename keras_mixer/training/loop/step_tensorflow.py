"""The training step on the TensorFlow backend, for one device, several devices, several hosts and TPUs."""

import contextlib
import functools
from collections.abc import Callable

import keras
import tensorflow as tf

from keras_mixer.sublayers import seed_generators
from keras_mixer.training.distillation import Teacher, divided
from keras_mixer.training.loop.compiled_elementwise import CompiledElementwise


class TensorFlowTrainingModel(keras.Model):
    """A model whose `fit` gives the same weights under every `tf.distribute` strategy as on a single device.

    It shares the layers of the model that it wraps. In addition to Keras's own step it
    - divides a batch that does not fit in memory into `micro_batches` parts, and applies the mean of their gradients
      once;
    - compiles the forward and backward pass with XLA (`compile_gradients`) if a sum over replicas keeps XLA from
      compiling the whole step;
    - compiles GELU and LayerNorm alone (`compile_elementwise`) if the graph computes the rest faster;
    - runs `steps_per_execution` steps in one graph under every strategy;
    - can train under `MultiWorkerMirroredStrategy`;
    - drops different samples and units on each replica;
    - adds the logits of a `teacher` to the labels.

    Build the functional `model` in the scope of the strategy. `micro_batches` must divide each replica's batch.
    """

    def __init__(
        self,
        model: keras.Model,
        micro_batches: int = 1,
        teacher: Teacher | None = None,
        compile_gradients: bool = False,
        compile_elementwise: bool = False,
        **kwargs,
    ):
        super().__init__(inputs=model.inputs, outputs=model.outputs, name=model.name, **kwargs)
        self.train_function: Callable | None = None
        self.test_function: Callable | None = None
        self.micro_batches = micro_batches
        self.teacher = teacher
        self.compile_gradients = compile_gradients
        self._elementwise = CompiledElementwise() if compile_elementwise else contextlib.nullcontext
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            draw_per_replica(self)

    def train_step(self, data):
        images, targets, _ = keras.utils.unpack_x_y_sample_weight(data)
        if self.teacher is not None:
            targets = self.teacher.targets(images, targets)
        gradients_of = self._accumulated_gradients if self.micro_batches > 1 else self._gradients
        if self.compile_gradients:
            gradients_of = tf.function(gradients_of, jit_compile=True)
        loss, scores, gradients = gradients_of(images, targets)
        replicas = self.distribute_strategy.num_replicas_in_sync
        # The optimizer sums over replicas. Dividing each replica's mean by their number makes the sum the global mean.
        self.optimizer.apply([gradient / replicas for gradient in gradients], self.trainable_variables)
        self._loss_tracker.update_state(loss, sample_weight=tf.cast(tf.shape(images)[0], loss.dtype))
        return self.compute_metrics(images, targets, scores)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return super().compute_metrics(x, divided(y, y_pred)[0], y_pred, sample_weight)

    def _gradients(self, images, targets):
        """Returns the mean loss of a replica's batch, the scores and the gradients."""
        with self._elementwise(), tf.GradientTape() as tape:
            scores = self(images, training=True)
            loss = tf.reduce_mean(self.loss.call(targets, scores))
        return loss, scores, tape.gradient(loss, self.trainable_variables)

    def _accumulated_gradients(self, images, targets):
        """Does the same as `_gradients`, one part at a time, so that memory holds the activations of only one part."""
        parts = self.micro_batches
        per_part = images.shape[0] // parts
        images, targets = _split(images, parts), _split(targets, parts)
        classes = self.outputs[0].shape[-1]
        all_scores = tf.TensorArray(tf.float32, parts, element_shape=(per_part, classes))
        sums = [tf.zeros(variable.shape, variable.dtype) for variable in self.trainable_variables]

        def add_part(part, loss_sum, all_scores, sums):
            loss, scores, gradients = self._gradients(images[part], targets[part])
            sums = [total + gradient for total, gradient in zip(sums, gradients, strict=True)]
            return part + 1, loss_sum + loss, all_scores.write(part, scores), sums

        _, loss_sum, all_scores, sums = tf.while_loop(
            lambda part, *_: part < parts, add_part, (0, 0.0, all_scores, sums), parallel_iterations=1
        )
        scores = tf.reshape(tf.transpose(all_scores.stack(), (1, 0, 2)), (per_part * parts, classes))
        return loss_sum / parts, scores, [total / parts for total in sums]

    def make_train_function(self, force=False):
        if self._distributed() and (force or self.train_function is None):
            self.train_function = self._on_replicas(self.train_step, self.steps_per_execution)
        elif not self._distributed():
            super().make_train_function(force=force)

    def make_test_function(self, force=False):
        if self._distributed() and (force or self.test_function is None):
            self.test_function = self._on_replicas(self.test_step, 1)
        elif not self._distributed():
            super().make_test_function(force=force)

    def _distributed(self) -> bool:
        return self.distribute_strategy.num_replicas_in_sync > 1 and not self.run_eagerly

    def _on_replicas(self, step: Callable, steps: int) -> Callable:
        """Returns a function that takes an iterator, runs `steps` steps on all replicas and returns the logs."""
        strategy = self.distribute_strategy

        def one_step(iterator):
            logs = strategy.run(step, args=(next(iterator),))
            # The progress bar shows the logs of the first replica; `fit` reads the sums at the end.
            return tf.nest.map_structure(lambda value: strategy.experimental_local_results(value)[0], logs)

        @tf.function(reduce_retracing=True)
        def several_steps(iterator):
            for _ in tf.range(steps - 1):
                one_step(iterator)
            return one_step(iterator)

        return several_steps

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Builds loss and metrics from the declared shapes, before the first step.

        Under a strategy, Keras would take the first batch from the distributed iterator, so that training misses it,
        and average it over the replicas, which fails across workers. Without a strategy, Keras would build loss and
        metrics in the first step, too late for the metrics of a checkpoint.
        """
        images = keras.KerasTensor((1, *self.inputs[0].shape[1:]), self.inputs[0].dtype)
        targets = keras.KerasTensor((1, *self.outputs[0].shape[1:]), "float32")
        with self.distribute_strategy.scope():
            self._symbolic_build(data_batch=(images, targets, None))


def _split(batch, parts: int):
    """Splits (batch, ...) to (parts, batch / parts, ...); example i goes to part i mod parts."""
    batch = tf.reshape(batch, (batch.shape[0] // parts, parts, *batch.shape[1:]))
    return tf.transpose(batch, (1, 0, *range(2, batch.shape.rank)))


def draw_per_replica(model: keras.Model) -> None:
    """Makes the layers of `model` drop different samples and units on each replica.

    Each replica holds a copy of the same random state, so example i of each replica's share would lose the same
    branches. The key of each draw therefore includes the index of the replica. The state stays the same on all replicas
    and is saved once. A run that is resumed on the same number of replicas draws what an uninterrupted run would draw.
    """
    for generator in seed_generators(model):
        generator.next = functools.partial(_next_of_replica, generator)


def _next_of_replica(generator: keras.random.SeedGenerator, ordered: bool = True) -> tf.Tensor:
    """Returns the key of the next draw: two integers, of which the second counts the draws."""
    key = type(generator).next(generator, ordered)
    context = tf.distribute.get_replica_context()
    if context is None:
        return key
    return key + tf.stack([tf.cast(context.replica_id_in_sync_group, key.dtype), tf.constant(0, key.dtype)])
