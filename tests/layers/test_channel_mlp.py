import math

import keras
import numpy as np
import pytest

from keras_mixer.layers import ChannelMLP
from keras_mixer.layers.channel_mlp import gelu_erf

pytestmark = pytest.mark.backends


def test_is_x_times_the_normal_distribution_function():
    values = np.linspace(-6, 6, 25, dtype="float32")
    expected = [x * (1 + math.erf(x / math.sqrt(2))) / 2 for x in values.tolist()]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(gelu_erf(values)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a graph of TensorFlow")
def test_a_graph_for_images_of_any_size_gives_what_the_layer_gives():
    import tensorflow as tf

    layer = ChannelMLP(6)
    images = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype("float32")
    expected = layer(images)
    graph = tf.function(layer, input_signature=[tf.TensorSpec((None, None, None, 4))])
    np.testing.assert_allclose(graph(images), expected, rtol=1e-5, atol=1e-6)
