"""Where a model begins: a new input of images, or a tensor that the caller has."""

import keras


def image_input(input_shape, input_tensor):
    """Returns the tensor of images to build on, and the inputs of the model that it belongs to.

    Args:
        input_shape: Image shape (height, width, channels).
        input_tensor: Keras tensor of images, or None for a new input of `input_shape`.
    """
    images = keras.Input(shape=input_shape, name="images") if input_tensor is None else input_tensor
    inputs = keras.utils.get_source_inputs(images)
    return images, inputs[0] if len(inputs) == 1 else inputs  # a list of one would ask for lists of images
