"""The initial distribution of kernels whose shape does not tell Keras how many values are summed."""

import keras


def lecun_normal(fan_in: int) -> keras.initializers.Initializer:
    """Returns LeCun's normal distribution for sums over `fan_in` values.

    Keras reads the number of summed values off the shape, as those of a Dense or a convolution; other kernels name it.
    """
    # A normal distribution cut at two standard deviations has 0.8796 times its deviation.
    return keras.initializers.TruncatedNormal(stddev=fan_in**-0.5 / 0.87962566103423978)
