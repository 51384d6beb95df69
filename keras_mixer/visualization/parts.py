"""Finds the parts of a model that the pictures show, and converts between pixels and model inputs."""

import keras
import numpy as np

from keras_mixer.layers import MixerBlock, PatchEmbedding
from keras_mixer.preprocessing import Preprocessing


def stem_of(model: keras.Model) -> PatchEmbedding:
    """Returns the layer that cuts the images into patches; raises ValueError if the model has none."""
    for layer in model.layers:
        if isinstance(layer, PatchEmbedding):
            return layer
    raise ValueError(f"The model {model.name!r} does not cut images into patches: it has no PatchEmbedding layer.")


def block_of(model: keras.Model, index: int) -> MixerBlock:
    """Returns a Mixer block by its index, where -1 is the last; raises ValueError if it does not exist."""
    blocks = _blocks(model)
    if not -len(blocks) <= index < len(blocks):
        raise ValueError(f"The model {model.name!r} has {len(blocks)} Mixer blocks, counted from 0; got block {index}.")
    return blocks[index]


def blocks_on_patches(model: keras.Model) -> list[int]:
    """Returns the indices of the Mixer blocks that read one token per patch; later blocks of a pyramid do not."""
    blocks = _blocks(model)
    rows, columns = stem_of(model).grid if blocks else (0, 0)
    return [index for index, block in enumerate(blocks) if block.input.shape[1] == rows * columns]


def _blocks(model: keras.Model) -> list[MixerBlock]:
    return [layer for layer in model.layers if isinstance(layer, MixerBlock)]


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
    shape, expected = np.shape(image), tuple(model.input_shape[1:])
    if len(shape) != len(expected) or any(side not in (None, got) for side, got in zip(expected, shape, strict=True)):
        raise ValueError(f"Expected one image of shape {expected}, but got {shape}.")
    return np.asarray(image, "float32")


def checked_class(scores: np.ndarray, class_index: int | None) -> int:
    """Returns `class_index` after checking it; None stands for the class with the highest score."""
    target = int(scores.argmax()) if class_index is None else class_index
    if not 0 <= target < len(scores):
        raise ValueError(f"The model scores {len(scores)} classes; got class {target}.")
    return target


def displayable(images: np.ndarray, preprocessing: Preprocessing | None) -> np.ndarray:
    """Converts preprocessed images `(..., channels)` back to pixels in [0, 1]."""
    mean, std = _mean_and_std(images.shape[-1], preprocessing)
    return np.clip(np.asarray(images, "float64") * std + mean, 0.0, 1.0)


def mid_grey(channels: int, preprocessing: Preprocessing | None, model: keras.Model) -> np.ndarray:
    """Returns the model input for a pixel halfway between black and white, one number or `(channels,)`."""
    mean, std = _mean_and_std(channels, preprocessing or getattr(model, "preprocessing", None))
    return (0.5 - mean) / std


def _mean_and_std(channels: int, preprocessing: Preprocessing | None) -> tuple[np.ndarray, np.ndarray]:
    mean, std = (preprocessing.mean, preprocessing.std) if preprocessing else (0.5, 0.5)
    values = np.asarray(mean, "float64"), np.asarray(std, "float64")
    if any(value.shape not in ((), (channels,)) for value in values):
        raise ValueError(
            f"`preprocessing` has mean {mean} and std {std}, but the images have {channels} channels. Pass the "
            "preprocessing of the model, such as `model.preprocessing`."
        )
    return values
