"""Compiles GELU and LayerNorm in a TensorFlow graph on a CPU, so that each is one pass over its array.

By itself, the graph runs each operation of a formula as a separate pass, eight for a GELU and more than twice as many
for its gradient, and keeps all intermediate arrays in memory. XLA compiles each formula and each gradient into one pass
that keeps only the inputs. Matrix products stay with TensorFlow's kernels, which are faster than XLA's on a CPU.
"""

import contextlib
import functools
import operator
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from keras_mixer.layers import LayerNorm
from keras_mixer.layers.channel_mlp import gelu_erf
from keras_mixer.layers.mixing import gelu_tanh


def one_pass(function: Callable) -> Callable:
    """Compiles a function from tensors to one tensor, and its gradient, which recomputes the intermediate arrays.

    All variables of the function must be arguments.
    """
    forward = tf.function(function, jit_compile=True, autograph=False)

    @tf.function(jit_compile=True, autograph=False)
    def backward(inputs, upstream):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = function(*inputs)
        return tape.gradient(outputs, inputs, upstream)

    @tf.custom_gradient
    def computed(*inputs):
        return forward(*inputs), lambda upstream: backward(inputs, upstream)

    return lambda *inputs: computed(*map(tf.convert_to_tensor, inputs))


def _precisely(activation: Callable, *terms: tf.Tensor) -> tf.Tensor:
    """Applies `activation` to the sum of `terms` in at least float32 and rounds once, at the end."""
    kind = terms[0].dtype
    precise = tf.float32 if kind.size < 4 else kind
    return tf.cast(activation(functools.reduce(operator.add, (tf.cast(term, precise) for term in terms))), kind)


def _product_first(dense: keras.layers.Dense, activation: Callable) -> Callable:
    """Returns a `call` of Dense that adds the bias in the same pass as the activation."""

    def call(inputs, training=None):
        return activation(keras.ops.matmul(inputs, dense.kernel), *([] if dense.bias is None else [dense.bias]))

    return call


def _normalise(epsilon: float, center: bool, scale: bool, dtype: str) -> Callable:
    """Compiles the formula once for all LayerNorms with the same settings."""
    return one_pass(LayerNorm(epsilon, center, scale, dtype=dtype, name="shared").normalise)


class CompiledElementwise:
    """Replaces the GELUs and LayerNorms of a model by compiled ones while a step is traced."""

    def __init__(self, model: keras.Model):
        activations = {form: one_pass(functools.partial(_precisely, form)) for form in (gelu_tanh, gelu_erf)}
        normalise = functools.cache(_normalise)
        self._places: list[tuple[keras.layers.Layer, str, Callable]] = []
        for layer in model._flatten_layers():
            activation = activations.get(getattr(layer, "activation", None))
            if type(layer) is LayerNorm:
                form = (layer.epsilon, layer.center, layer.scale, layer.compute_dtype)
                self._places.append((layer, "normalise", normalise(*form)))
            elif activation and type(layer) is keras.layers.Dense:
                self._places.append((layer, "call", _product_first(layer, activation)))
            elif activation:
                self._places.append((layer, "activation", activation))

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Uses the compiled functions while the context lasts."""
        plain = [getattr(layer, name) for layer, name, _ in self._places]
        for layer, name, compiled in self._places:
            setattr(layer, name, compiled)
        try:
            yield
        finally:
            for (layer, name, _), function in zip(self._places, plain, strict=True):
                setattr(layer, name, function)
