"""Changes the image size of a model (appendix C of the paper)."""

import dataclasses
import functools
import inspect
import math
import re
import textwrap
from collections.abc import Mapping

import keras
import numpy as np

from keras_mixer.shapes import TOKENS_IN, TOKENS_OUT, pair_of_positive_integers
from keras_mixer.weights.reading.checkpoint import assign_weights, named_weights, weight_values
from keras_mixer.weights.reading.formats import StoredArray
from keras_mixer.weights.resolution.fit import fit_to_grid
from keras_mixer.weights.resolution.grids import grid_at, line_axes, parts_between, patch_layer, token_axes

_PROBED = 7  # images in a trial without values
_METHODS = ("auto", "block_diagonal", "resample")


def change_resolution(model, image_size: int | tuple[int, int], method: str = "auto") -> keras.Model:
    """Returns a new model for images of another size, with the weights of `model`.

    There are two methods:

    - "block_diagonal" is the method of appendix C. The image is divided into `K_h x K_w` parts of the old size. Each
      part gets its own hidden units, so that `tokens_mlp_dim` grows by a factor of `K_h * K_w`. The new logits are the
      mean of the old model's logits on the parts.
    - "resample" works for any size and is not from the paper. Each hidden unit's map over tokens is resampled like an
      image, with antialiasing, and `tokens_mlp_dim` does not change. A token MLP then has the effect of resizing each
      channel's map to the old size, applying the old MLP, and resizing back.

    Both methods also work for ResMLP and gMLP. In a Vision Permutator, weights over rows and columns are always
    resampled. ConvMixer and CycleMLP keep their weights, whose shapes do not depend on the size of the image.

    Args:
        model: A functional model of images.
        image_size: Pixels (height, width), or one integer for both. All models except ConvMixer and CycleMLP need
            multiples of the patch size.
        method: "block_diagonal", "resample" or "auto". "auto" means "block_diagonal" if the new grid of patches is a
            whole multiple of the old one along each axis, and "resample" otherwise.

    Returns:
        A new model, not compiled, with the same names, head, dtype policies, batch size of the input, `preprocessing`
        and other settings.

    Raises:
        ValueError: If a layer does not take that `image_size`, or `method` is unknown or impossible. Also if the model
            is not functional, has several inputs, holds another model, is quantised, has blocks that change the number
            of tokens, or has other layers of a fixed size or whose weights depend on it.

    Example:
        >>> model = keras_mixer.MixerB16(weights="imagenet21k")
        >>> keras_mixer.weights.change_resolution(model, 448).input_shape
        (None, 448, 448, 3)
    """
    if method not in _METHODS:
        raise ValueError(f"`method` must be one of {', '.join(_METHODS)}, but got {method!r}.")
    height, width = pair_of_positive_integers("image_size", image_size)
    _check_functional(model)
    weights, axes, lines = named_weights(model), token_axes(model), line_axes(model)
    if method == "block_diagonal" and (lines or not axes):
        raise ValueError(
            f"Block-diagonal weights treat each part of an image alone, but {model.name!r} "
            f"{'mixes along whole rows and columns' if lines else 'has no weights over tokens'}. "
            'Use `method="resample"`.'
        )
    if not axes and not lines:
        changed = _rebuilt(model, (height, width), 1)
        values = weight_values(model)
        _check_shapes(model, changed, values)
        assign_weights(changed, values)
        return changed
    stem = patch_layer(model)
    _check_one_grid(model, weights)
    old, new = stem.grid, grid_at(stem, (height, width))
    parts = None if method == "resample" else parts_between(old, new)
    if method == "block_diagonal" and parts is None:
        raise ValueError(
            f"Block-diagonal weights need a whole number of old images in the new one, but the grid of patches goes "
            f'from {old[0]} x {old[1]} to {new[0]} x {new[1]}. Use `method="resample"`.'
        )
    changed = _rebuilt(model, (height, width), math.prod(parts) if parts else 1)
    if patch_layer(changed).grid != new:
        raise ValueError(
            f"A layer before the stem of {model.name!r} changes the size of the images to "
            f"{' x '.join(map(str, stem.input.shape[1:3]))} pixels, so that the model's resolution cannot be changed. "
            "Change it before you put that layer in front."
        )
    arrays = {
        name: StoredArray(
            array.shape, array.dtype.name, functools.partial(np.asarray, array), stored_bytes=8 * array.size
        )
        for name, array in weight_values(model).items()
    }
    arrays = fit_to_grid(changed, arrays, old, parted=parts is not None)
    _check_shapes(model, changed, arrays)
    assign_weights(changed, {name: array.read() for name, array in arrays.items()})
    return changed


def _check_shapes(model, changed, arrays: Mapping) -> None:
    """Raises ValueError unless the arrays of `model` have the shapes of the weights of `changed`."""
    for name, weight in named_weights(changed).items():
        if tuple(arrays[name].shape) != tuple(weight.shape):
            raise ValueError(
                f"{name} of {model.name!r} has the shape {tuple(weight.shape)} at the new size and "
                f"{tuple(arrays[name].shape)} at the old one, but it is not a weight over tokens: pool the tokens "
                "before it, instead of flattening them."
            )


def _check_functional(model) -> None:
    """Raises ValueError unless `model` is functional, reads one batch of images, and none of its layers is a model."""
    if not isinstance(model, keras.Model):
        raise ValueError(f"Expected a functional model of layers, but got {model!r}.")
    inner = [layer.name for layer in model.layers if isinstance(layer, keras.Model)]
    if inner or isinstance(model, keras.Sequential) or not getattr(model, "inputs", None):
        raise ValueError(
            f"Expected a functional model of layers, but {model.name!r} is of the class {type(model).__name__}"
            f"{f' and has the model {inner[0]!r} among its layers' if inner else ''}. Change the resolution of the "
            f"functional Mixer itself, and put the other layers around the new one."
        )
    shapes = [tuple(images.shape) for images in model.inputs]
    if [len(shape) for shape in shapes] != [4]:
        raise ValueError(
            f"Expected a model with one input (batch, height, width, channels), but {model.name!r} has inputs of the "
            f"shapes {', '.join(map(str, shapes))}."
        )


def _check_one_grid(model, weights: dict) -> None:
    """Raises ValueError unless every axis over tokens of `weights` has the grid of the model's patches."""
    grid = patch_layer(model).grid
    for name, roles in token_axes(model).items():
        for role, length in zip(roles, weights[name].shape, strict=True):
            if role in (TOKENS_IN, TOKENS_OUT) and length != math.prod(grid):
                raise ValueError(
                    f"{name} is a weight over {length} tokens, not over the {grid[0]} x {grid[1]} patches of an image: "
                    "the resolution of a model whose blocks change the number of tokens cannot be changed."
                )


def _rebuilt(model, image_size: tuple[int, int], growth: int) -> keras.Model:
    """Rebuilds `model` for another image size, with `growth` times as many hidden units in its token MLPs."""
    (images,) = model.inputs
    shape = (images.shape[0], *image_size, images.shape[-1])
    inputs = keras.Input(batch_shape=shape, name=images.name, dtype=images.dtype)
    inputs = keras.tree.pack_sequence_as(model.input, [inputs])

    def renew(layer):
        config = layer.get_config()
        for argument in getattr(layer, "hidden_arguments", ()):
            config[argument] *= growth
        return type(layer).from_config(config)

    try:
        renewed = clone_uncompiled(model, input_tensors=inputs, clone_function=renew)
        probe = keras.KerasTensor((images.shape[0] or _PROBED, *shape[1:]), images.dtype)
        outputs = keras.tree.flatten(renewed.compute_output_spec(keras.tree.pack_sequence_as(model.input, [probe])))
    except Exception as error:  # whatever a user's layer raises
        plain = re.sub(r"\x1b\[\d*m", "", str(error))  # Keras prints a part in bold
        reason = textwrap.shorten(plain, 300, placeholder="...")
        raise ValueError(
            f"A layer of {model.name!r} does not take images of {image_size[0]} x {image_size[1]}: {reason}"
        ) from error
    sizes = {output.shape[0] for output in outputs if output.shape} - {None, probe.shape[0]}
    if sizes:
        raise ValueError(
            f"A layer of {model.name!r} reshapes to a fixed number of tokens: at {image_size[0]} x {image_size[1]} "
            f"pixels, a batch of {probe.shape[0]} images becomes one of {sizes.pop()}. Use a layer that takes the "
            "number from its input."
        )
    copy_settings(model, renewed)
    if (preprocessing := getattr(renewed, "preprocessing", None)) is not None:
        renewed.preprocessing = dataclasses.replace(preprocessing, image_size=image_size)
    return renewed


def clone_uncompiled(model, **arguments) -> keras.Model:
    """Clones a functional model by `keras.models.clone_model` with `arguments`, without its compilation."""
    # Keras would also clone the compile configuration, and fails if a loss has no name.
    twin = keras.Model(model.input, model.output, name=model.name)
    constructors = [inspect.getfullargspec(type(of).__init__).args for of in (model, twin)]
    if constructors[0] == constructors[1]:  # Keras then keeps the class
        twin = type(model)(model.input, model.output, name=model.name)
    return keras.models.clone_model(twin, **arguments)


def copy_settings(model, to) -> None:
    """Freezes the weights of `to` that are frozen in `model`, and copies the preprocessing if there is one."""
    # The configuration of a layer leaves out whether a single weight is frozen.
    for old, new in zip(model.weights, to.weights, strict=True):
        new.trainable = old.trainable
    preprocessing = getattr(model, "preprocessing", None)
    if preprocessing is not None:
        to.preprocessing = preprocessing
