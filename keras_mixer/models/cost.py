"""What a model costs by formula: multiply-adds of one image, layer by layer."""

import keras

from keras_mixer.layers import MixerBlock, PatchEmbedding


def multiply_adds(model: keras.Model) -> int:
    """Counts the multiply-adds of the matrix products for one image.

    Additions of biases, normalisation, activations and means are left out, as the field leaves them out: they are
    linear in the size of the table of tokens, and below a hundredth of the products in the models of the paper.

    Args:
        model: A model of patches, Mixer blocks and dense layers.

    Returns:
        The number of multiply-adds; half the number of floating-point operations.

    Raises:
        ValueError: If the model has a layer with weights of another kind.

    Example:
        >>> keras_mixer.models.multiply_adds(keras_mixer.MixerB16()) / 1e9  # 12.6 billion
    """
    total = 0
    for layer in model.layers:
        if isinstance(layer, PatchEmbedding):
            patch_height, patch_width = layer.patch_size
            rows, columns = layer.grid
            total += rows * columns * patch_height * patch_width * layer.kernel.shape[2] * layer.hidden_dim
        elif isinstance(layer, MixerBlock):
            total += _block(layer)
        elif isinstance(layer, keras.layers.Dense):
            total += layer.kernel.shape[0] * layer.kernel.shape[1]
        elif layer.weights and not isinstance(layer, (keras.layers.LayerNormalization, keras.layers.Normalization)):
            raise ValueError(
                f"There is no formula for the layer {layer.name!r} of type {type(layer).__name__}: "
                "count its operations with the framework instead."
            )
    return total


def _block(block: MixerBlock) -> int:
    _, tokens, channels = block.input.shape
    _, tokens_out, _ = block.output.shape
    groups = block.channel_groups
    # Columns of S * G values each; without groups, C columns of S values.
    token_mlp = (channels // groups) * groups * (tokens + tokens_out) * block.tokens_mlp_dim
    views = tokens * channels * channels if block.grouping == "project" else 0
    shortcut = tokens * tokens_out * channels if tokens_out != tokens else 0
    channel_mlp = 2 * tokens_out * channels * block.channels_mlp_dim
    return token_mlp + views + shortcut + channel_mlp
