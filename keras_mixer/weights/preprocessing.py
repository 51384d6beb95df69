"""The preprocessing of published weights, on images that are already of the model's size."""

import numpy as np

from keras_mixer.weights.registry import InputPreprocessing


def preprocess_input(images, preprocessing: InputPreprocessing | None = None):
    """Takes pixels from [0, 255] to what the weights were trained on, [-1, 1] unless told otherwise.

    Args:
        images: Array or tensor of any shape, integer or floating, values in [0, 255]; the last axis holds the
            channels where `preprocessing` has one mean for each.
        preprocessing: That of a set of weights, which the model that a constructor returns carries as
            `model.preprocessing`: Mixer's sets named `miil` want [0, 1], most of its siblings ImageNet's mean and
            deviation of each channel. None for [-1, 1].

    Returns:
        float32 NumPy array for a NumPy array or list, else a tensor of the backend; of the same shape.

    Example:
        >>> keras_mixer.preprocess_input(np.array([0, 255]))
        array([-1.,  1.], dtype=float32)
    """
    preprocessing = preprocessing or InputPreprocessing()
    mean, std = (np.asarray(value, "float32") for value in (preprocessing.mean, preprocessing.std))
    if isinstance(images, (np.ndarray, list, tuple, int, float)):
        scaled = np.asarray(images, "float32") / np.float32(255.0)
    else:
        from keras import ops

        mean, std = ops.convert_to_tensor(mean), ops.convert_to_tensor(std)
        scaled = ops.cast(images, "float32") / 255.0
    return (scaled - mean) / std
