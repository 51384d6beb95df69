"""Finds the parts of a model that the pictures show: its stem and its blocks."""

import keras

from keras_mixer.layers import MixerBlock, PatchEmbedding


def stem_of(model: keras.Model) -> PatchEmbedding:
    """Returns the layer that cuts the images into patches.

    Raises:
        ValueError: If the model has none.
    """
    for layer in model.layers:
        if isinstance(layer, PatchEmbedding):
            return layer
    raise ValueError(f"The model {model.name!r} does not cut images into patches: it has no PatchEmbedding layer.")


def block_of(model: keras.Model, index: int) -> MixerBlock:
    """Returns a Mixer block by its index, counted from 0; negative ones count from the last.

    Raises:
        ValueError: If there is no such block.
    """
    blocks = [layer for layer in model.layers if isinstance(layer, MixerBlock)]
    if not -len(blocks) <= index < len(blocks):
        raise ValueError(f"The model {model.name!r} has {len(blocks)} Mixer blocks, counted from 0; got block {index}.")
    return blocks[index]


def blocks_on_patches(model: keras.Model) -> list[int]:
    """Returns the indices of the blocks that read the patches of the image, and not what a pyramid has left of them.

    Raises:
        ValueError: If the model has no Mixer blocks.
    """
    blocks = [layer for layer in model.layers if isinstance(layer, MixerBlock)]
    if not blocks:
        raise ValueError(f"The model {model.name!r} has no Mixer blocks to look into.")
    rows, columns = stem_of(model).grid
    return [index for index, block in enumerate(blocks) if block.input.shape[1] == rows * columns]


def keeps_tokens(model: keras.Model, index: int) -> bool:
    """Whether a block puts out as many tokens as it reads, so that each has its patch's place in the image."""
    block = block_of(model, index)
    return block.input.shape[1] == block.output.shape[1]


def grid_of(model: keras.Model, tokens: int) -> tuple[int, int]:
    """Returns the rows and columns of the patches that `tokens` tokens stand for.

    Raises:
        ValueError: If there are not as many patches, as inside a pyramid.
    """
    rows, columns = stem_of(model).grid
    if rows * columns != tokens:
        raise ValueError(
            f"These {tokens} tokens are not the {rows} x {columns} patches of the image and have no place in it: "
            "choose an earlier block."
        )
    return rows, columns
