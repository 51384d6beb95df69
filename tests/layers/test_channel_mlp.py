import math

import keras
import numpy as np
import pytest

from keras_mixer.layers.channel_mlp import gelu_erf

pytestmark = pytest.mark.backends


def test_is_x_times_the_normal_distribution_function():
    values = np.linspace(-6, 6, 25, dtype="float32")
    expected = [x * (1 + math.erf(x / math.sqrt(2))) / 2 for x in values.tolist()]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(gelu_erf(values)), expected, rtol=1e-5, atol=1e-6)
