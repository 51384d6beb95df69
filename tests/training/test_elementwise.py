"""Compiled GELU and LayerNorm against the plain graph's."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mixer
from keras_mixer.layers import LayerNorm
from keras_mixer.layers.channel_mlp import ActivatedDense
from keras_mixer.layers.elementwise import compiling
from keras_mixer.layers.mixing import gelu_tanh
from keras_mixer.training.loop.compiled_elementwise import CompiledElementwise, one_pass
from keras_mixer.training.loop.step_tensorflow import TensorFlowTrainingModel

MODELS = {
    "mixer": lambda: keras_mixer.Mixer(
        num_blocks=1,
        patch_size=4,
        hidden_dim=8,
        tokens_mlp_dim=6,
        channels_mlp_dim=16,
        input_shape=(8, 12, 3),
        classes=3,
        classifier_activation=None,
    ),
    "g_mlp": lambda: keras_mixer.GMLP(
        num_blocks=1, patch_size=4, hidden_dim=8, input_shape=(8, 12, 3), classes=3, classifier_activation=None
    ),
    "res_mlp": lambda: keras_mixer.ResMLP(
        num_blocks=1, patch_size=4, hidden_dim=8, input_shape=(8, 12, 3), classes=3, classifier_activation=None
    ),
}
# GELU and LayerNorm of a block, and the last norm; ResMLP has Affine in place of LayerNorm.
PLACES = {"mixer": 2 + 2 + 1, "g_mlp": 1 + 2 + 1, "res_mlp": 1}


def loss_and_gradients(model, **options):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(4, 8, 12, 3)).astype("float32")
    targets = np.eye(3, dtype="float32")[[0, 1, 2, 0]]
    trained = TensorFlowTrainingModel(model, **options)
    trained.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    loss, _, gradients = tf.function(trained._gradients)(tf.constant(images), tf.constant(targets))
    return loss, gradients


@pytest.mark.parametrize("name", MODELS)
def test_the_gradients_are_those_of_the_graph(name):
    keras.utils.set_random_seed(0)
    model = MODELS[name]()
    for weight in model.trainable_weights:  # biases and the head begin at zero
        weight.assign(weight + 0.1 * keras.random.normal(weight.shape))
    formulas = []

    def plainly(formula, settings, *tensors):
        with compiling(None):
            return formula(*tensors, **settings)

    def noting(formula, settings):
        formulas.append(formula)
        return functools.partial(plainly, formula, settings)

    with compiling(noting):
        model(tf.zeros((1, 8, 12, 3)))
    assert len(formulas) == PLACES[name]
    loss, gradients = loss_and_gradients(model, compile_elementwise=True)
    plain_loss, plain_gradients = loss_and_gradients(model)
    np.testing.assert_allclose(loss, plain_loss, rtol=1e-6)
    for weight, gradient, plain in zip(model.trainable_weights, gradients, plain_gradients, strict=True):
        np.testing.assert_allclose(gradient, plain, rtol=1e-4, atol=1e-6, err_msg=weight.path)


def test_the_layers_compute_plainly_again_even_after_an_error():
    seen = []

    def counting(formula, settings):
        seen.append(formula)
        return lambda *tensors: formula(*tensors, **settings)

    values = tf.ones((1, 2, 4))

    def interrupted():
        with compiling(counting):
            LayerNorm()(values)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert len(seen) == 1
    LayerNorm()(values)
    assert len(seen) == 1


def test_equal_layers_share_what_xla_compiles():
    counts = []
    for blocks in (1, 3):
        sizes = dict(patch_size=4, hidden_dim=8, tokens_mlp_dim=6, channels_mlp_dim=16, input_shape=(8, 12, 3))
        model = keras_mixer.Mixer(num_blocks=blocks, classes=3, classifier_activation=None, **sizes)
        trained = TensorFlowTrainingModel(model, compile_elementwise=True)
        trained.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
        step = tf.function(trained._gradients).get_concrete_function(tf.zeros((4, 8, 12, 3)), tf.zeros((4, 3)))
        functions = step.graph.as_graph_def().library.function
        counts.append(sum(function.attr["_XlaMustCompile"].b for function in functions))
    assert counts == [2 * 3, 2 * 3]  # both ways: LayerNorm, and a GELU of two shapes


def test_layers_of_other_forms_share_nothing():
    tokens = keras.Input((4, 8))
    forms = [dict(epsilon=1.0), dict(epsilon=0.1), dict(center=False), dict(scale=False), dict(dtype="float64")]
    model = keras.Model(tokens, [LayerNorm(**form)(tokens) for form in forms])
    for weight in model.trainable_weights:
        weight.assign(weight + 0.1 * keras.random.normal(weight.shape))
    values = keras.random.normal((2, 4, 8))
    plain = model(values)
    with CompiledElementwise()():
        compiled = model(values)
    for got, expected in zip(compiled, plain, strict=True):
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_bfloat16_is_rounded_once():
    values = tf.cast(tf.linspace(-2.0, 4.0, 401), tf.bfloat16)
    dense = ActivatedDense(1, activation=gelu_tanh, kernel_initializer="ones", dtype="bfloat16")
    dense.build((None, 1))
    with CompiledElementwise()():
        once = dense(values[:, None])[:, 0]
    exact = tf.cast(gelu_tanh(tf.cast(values, tf.float32)), tf.bfloat16)
    assert once.dtype == tf.bfloat16
    # XLA's tanh and TensorFlow's differ in the last float32 bit, which now and then rounds to the neighbour.
    np.testing.assert_allclose(tf.cast(once, tf.float32), tf.cast(exact, tf.float32), rtol=2**-7)
    assert np.mean(once.numpy() == exact.numpy()) > 0.99


def test_an_activation_with_weights_learns():
    dense = ActivatedDense(2, activation=keras.layers.PReLU())
    with tf.GradientTape() as tape, CompiledElementwise()():
        value = tf.reduce_sum(dense(tf.constant([[-1.0, 2.0, 0.5]])))
    gradients = tape.gradient(value, dense.trainable_weights)
    assert len(gradients) == 3
    assert all(gradient is not None for gradient in gradients)


def test_a_function_of_several_arguments_has_the_gradient_of_each():
    product = one_pass(lambda left, right: left * left * right)
    left, right = tf.constant([2.0, 3.0]), tf.constant([5.0, 7.0])
    with tf.GradientTape() as tape:
        tape.watch([left, right])
        value = product(left, right)
    by_left, by_right = tape.gradient(value, [left, right])
    np.testing.assert_allclose(by_left, [20.0, 42.0])
    np.testing.assert_allclose(by_right, [4.0, 9.0])
