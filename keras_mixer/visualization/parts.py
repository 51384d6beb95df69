"""Finds the parts of a model that the pictures show, and converts between pixels and model inputs."""

from collections.abc import Iterator

import keras
import numpy as np

from keras_mixer.layers import MixerBlock, PatchEmbedding
from keras_mixer.preprocessing import Preprocessing
from keras_mixer.shapes import integer


def stem_of(model: keras.Model) -> PatchEmbedding:
    """Returns the layer that cuts the images into patches; raises ValueError if the model has none."""
    for layer in _checked(model).layers:
        if isinstance(layer, PatchEmbedding):
            return layer
    raise ValueError(
        f"The model {model.name!r} does not cut images into patches: it has no PatchEmbedding layer.{_inner(model)}"
    )


def block_of(model: keras.Model, index: int) -> MixerBlock:
    """Returns a Mixer block by its index, where -1 is the last; raises ValueError if it does not exist."""
    blocks, place = _blocks(model), integer(index)
    if place is None or not -len(blocks) <= place < len(blocks):
        raise ValueError(
            f"The model {model.name!r} has {len(blocks)} Mixer blocks, counted from 0; got block {index!r}."
            f"{_inner(model) if not blocks else ''}"
        )
    return blocks[place]


def blocks_on_patches(model: keras.Model) -> list[int]:
    """Returns the indices of the Mixer blocks that read one token per patch; later blocks of a pyramid do not."""
    blocks = _blocks(model)
    rows, columns = stem_of(model).grid if blocks else (0, 0)
    return [index for index, block in enumerate(blocks) if block.input.shape[1] == rows * columns]


def _blocks(model: keras.Model) -> list[MixerBlock]:
    return [layer for layer in _checked(model).layers if isinstance(layer, MixerBlock)]


def _checked(model: keras.Model) -> keras.Model:
    if not isinstance(model, keras.Model):
        raise ValueError(f"Expected a Keras model, but got {model!r}.")
    return model


def all_parts(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Yields the layers of a model, and before each model among them the layers of that model."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from all_parts(layer)
        yield layer


def patch_grid(model: keras.Model) -> tuple[int, int] | None:
    """Returns the rows and columns of patches, also of a model inside the model; None if there are no patches."""
    return next((layer.grid for layer in all_parts(model) if isinstance(layer, PatchEmbedding)), None)


def _inner(model: keras.Model) -> str:
    """Returns a hint if a model inside another one may be meant."""
    names = [layer.name for layer in model.layers if isinstance(layer, keras.Model)]
    return f" Pass the model inside it: `model.get_layer({names[0]!r})`." if names else ""


def checked_index(value, count: int, message: str) -> int:
    """Returns an index as an int; raises ValueError with the message unless it is an integer from 0 to `count - 1`."""
    index = integer(value)
    if index is None or not 0 <= index < count:
        raise ValueError(message)
    return index


def keeps_tokens(model: keras.Model, index: int) -> bool:
    """Returns whether a block outputs as many tokens as it reads, so that each keeps its position in the image."""
    block = block_of(model, index)
    return block.input.shape[1] == block.output.shape[1]


def grid_of(model: keras.Model, tokens: int) -> tuple[int, int]:
    """Returns the rows and columns of patches; raises ValueError unless there are `tokens` patches."""
    rows, columns = stem_of(model).grid
    if rows * columns != tokens:
        raise ValueError(
            f"These {tokens} tokens have no place in the image, because they are not its {rows} x {columns} patches: "
            "choose an earlier block."
        )
    return rows, columns


def one_image(model: keras.Model, image) -> np.ndarray:
    """Returns an image as float32; raises ValueError if it is not one image of the model's shape."""
    inputs = getattr(_checked(model), "inputs", None) or []
    if len(inputs) != 1:
        raise ValueError(
            f"Expected a model that is built for one input of images, but {model.name!r} has {len(inputs)}."
        )
    shape, expected = np.shape(image), tuple(inputs[0].shape[1:])
    if len(shape) != len(expected) or any(side not in (None, got) for side, got in zip(expected, shape, strict=True)):
        raise ValueError(f"Expected one image of shape {expected}, but got {shape}.")
    return finite("The image", image)


def several_images(model: keras.Model, images) -> np.ndarray:
    """Returns images as float32; raises ValueError unless they are one or more images of the model's shape."""
    if np.ndim(images) == 0 or not len(images):
        raise ValueError(f"Expected images (n, height, width, channels), but got {images!r}.")
    return np.stack([one_image(model, image) for image in images])


def finite(what: str, values) -> np.ndarray:
    """Returns values as float32; raises ValueError unless they are finite numbers."""
    try:
        array = np.asarray(values, "float32")
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} must hold numbers, but got {values!r}.") from error
    if not np.isfinite(array).all():
        raise ValueError(f"{what} holds values that are not finite.")
    return array


def checked_class(model: keras.Model, scores, class_index: int | None) -> int:
    """Returns `class_index` after checking it and the scores of an image; None means the class with the best score."""
    several = isinstance(scores, (list, tuple, dict))
    if several or np.ndim(scores) != 1:
        found = "several outputs" if several else f"an output of shape {np.shape(scores)}"
        raise ValueError(f"Expected a model that scores classes, but {model.name!r} has {found} for an image.")
    if not np.isfinite(scores).all():
        raise ValueError(f"The scores that {model.name!r} gives the image are not finite.")
    message = f"The model scores {len(scores)} classes; got class {class_index!r}. Classes are counted from 0."
    return int(np.argmax(scores)) if class_index is None else checked_index(class_index, len(scores), message)


def displayable(images: np.ndarray, preprocessing: Preprocessing | None) -> np.ndarray:
    """Converts preprocessed images `(..., channels)` back to pixels in [0, 1]."""
    mean, std = _mean_and_std(images.shape[-1], preprocessing)
    return np.clip(np.asarray(images, "float64") * std + mean, 0.0, 1.0)


def mid_grey(channels: int, preprocessing: Preprocessing | None, model: keras.Model) -> np.ndarray:
    """Returns the model input for a pixel halfway between black and white, one number or `(channels,)`."""
    mean, std = _mean_and_std(channels, preprocessing or getattr(model, "preprocessing", None))
    return (0.5 - mean) / std


def _mean_and_std(channels: int, preprocessing: Preprocessing | None) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(preprocessing, Preprocessing | None):
        raise ValueError(
            f"`preprocessing` must be a `keras_mixer.data.Preprocessing` or None, but got {preprocessing!r}."
        )
    mean, std = (preprocessing.mean, preprocessing.std) if preprocessing else (0.5, 0.5)
    values = np.asarray(mean, "float64"), np.asarray(std, "float64")
    if any(value.shape not in ((), (channels,)) for value in values):
        raise ValueError(
            f"`preprocessing` has mean {mean} and std {std}, but the images have {channels} channels. Pass the "
            "preprocessing of the model, such as `model.preprocessing`."
        )
    return values
