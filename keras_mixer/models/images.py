"""Where a model begins: a new input of images, or a tensor that the caller has."""

import keras


def fixed_shape(input_shape, input_tensor) -> tuple[int | None, ...] | None:
    """Returns the image shape that a caller fixes by one of the two, None where by neither.

    Args:
        input_shape: Image shape (height, width, channels), None for a side of any length; or None for none.
        input_tensor: Keras tensor of images, or None for none.

    Raises:
        ValueError: If the tensor has images of another shape.
    """
    if input_tensor is None:
        return None if input_shape is None else tuple(input_shape)
    shape = tuple(input_tensor.shape[1:])
    if input_shape is not None and (
        len(input_shape) != len(shape)
        or any(side not in (None, given) for side, given in zip(input_shape, shape, strict=True))
    ):
        raise ValueError(f"`input_shape` is {tuple(input_shape)}, but `input_tensor` has images of shape {shape}.")
    return shape


def image_input(input_shape, input_tensor):
    """Returns the tensor of images to build on, and the inputs of the model that it belongs to.

    Args:
        input_shape: Image shape (height, width, channels).
        input_tensor: Keras tensor of images, or None for a new input of `input_shape`.
    """
    images = keras.Input(shape=input_shape, name="images") if input_tensor is None else input_tensor
    inputs = keras.utils.get_source_inputs(images)
    return images, inputs[0] if len(inputs) == 1 else inputs  # a list of one would ask for lists of images
