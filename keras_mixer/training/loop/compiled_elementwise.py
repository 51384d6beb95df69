"""Compiles GELU and LayerNorm in a TensorFlow graph on a CPU, so that each is one pass over its array.

By itself, the graph runs each operation of a formula as a separate pass, eight for a GELU and more than twice as many
for its gradient, and keeps all intermediate arrays in memory. XLA compiles each formula and each gradient into one pass
that keeps only the inputs. Matrix products stay with TensorFlow's kernels, which are faster than XLA's on a CPU.
"""

import contextlib
import functools
from collections.abc import Callable

import tensorflow as tf

from keras_mixer.layers.elementwise import compiling


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


def _precisely(formula: Callable, settings: dict, *tensors: tf.Tensor) -> tf.Tensor:
    """Computes a formula in at least float32, and rounds once, at the end, to the type of its first tensor."""
    kind = tensors[0].dtype
    precise = tf.float32 if kind.size < 4 else kind
    with compiling(None):  # a formula within a formula is compiled with it
        result = formula(*(tf.cast(tensor, precise) for tensor in tensors), **settings)
    return tf.cast(result, kind) if result.dtype == precise else result  # unless the formula has chosen a type


class CompiledElementwise:
    """Compiles the formulas of `keras_mixer.layers.elementwise` while its context lasts, equal ones once."""

    def __init__(self) -> None:
        self._compiled: dict[tuple, Callable] = {}

    def __call__(self) -> contextlib.AbstractContextManager[None]:
        """Returns the context."""
        return compiling(self._compile)

    def _compile(self, formula: Callable, settings: dict) -> Callable:
        key = (formula, *sorted(settings.items()))
        if key not in self._compiled:
            self._compiled[key] = one_pass(functools.partial(_precisely, formula, settings))
        return self._compiled[key]
