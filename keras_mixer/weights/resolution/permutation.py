"""Reorders the weights of a model to suit permuted images (section 3.5 of the paper)."""

from collections.abc import Sequence

import keras
import numpy as np

from keras_mixer.shapes import TOKENS_IN, TOKENS_OUT
from keras_mixer.weights.reading.checkpoint import assign_weights, named_weights, weight_values
from keras_mixer.weights.resolution.change import clone_uncompiled, copy_settings
from keras_mixer.weights.resolution.grids import line_axes, patch_layer, token_axes


def permute(
    model,
    patch_permutation: Sequence[int] | np.ndarray | None = None,
    pixel_permutation: Sequence[int] | np.ndarray | None = None,
) -> keras.Model:
    """Returns a new model whose output for permuted images is the output of `model` for the original images.

    A Mixer does not use the position of a patch, or of a pixel in its patch. Permuting the rows of the stem and the
    token axes of the token MLPs therefore compensates for permuting the image.

    Args:
        model: A functional model whose first layer is a `keras_mixer.layers.PatchEmbedding`.
        patch_permutation: Position i of the permuted image holds patch `patch_permutation[i]` of the original, both in
            raster order. None leaves the patches in place.
        pixel_permutation: Position i of each permuted patch holds pixel `pixel_permutation[i]` of the original patch,
            in raster order. The channels of a pixel stay together. None leaves the pixels in place.

    Returns:
        A new model, not compiled. If its outputs are tokens, they are in the order of the permuted patches.

    Raises:
        ValueError: If an argument is not a permutation of the right length, the model is quantised, or the model
            depends on the position of a patch, as a head on flattened tokens does. A trial with random weights detects
            the last case in models with one input. The trial starts at the stem: layers before it must treat all pixels
            alike.

    Example:
        >>> order = np.random.default_rng(0).permutation(196)
        >>> shuffled = keras_mixer.weights.permute(keras_mixer.MixerB16(), patch_permutation=order)
    """
    stem = patch_layer(model)
    named_weights(model)  # refuses a quantised model
    if patch_permutation is not None and line_axes(model):
        raise ValueError(
            f"{model.name!r} mixes along rows and columns, so that its weights cannot compensate for patches in "
            "another order. Leave out `patch_permutation`. Only the pixels within patches can be permuted."
        )
    patch_height, patch_width = stem.patch_size
    tokens = _permutation("patch_permutation", patch_permutation, stem.grid[0] * stem.grid[1])
    pixels = _permutation("pixel_permutation", pixel_permutation, patch_height * patch_width)

    if len(model.inputs) == 1:
        _check_places(model, stem, tokens, pixels)
    permuted = clone_uncompiled(model)
    _copy_reordered(model, permuted, tokens, pixels)
    copy_settings(model, permuted)
    return permuted


def _copy_reordered(model, to, tokens: np.ndarray, pixels: np.ndarray) -> None:
    """Assigns the weights of `model` to `to`, in the order of permuted images."""
    axes, values = token_axes(model), weight_values(model)
    for name, weight in values.items():
        for axis, role in enumerate(axes.get(name, ())):
            # After a block that changes their number, the tokens are not in the order of the patches.
            if role in (TOKENS_IN, TOKENS_OUT) and weight.shape[axis] == len(tokens):
                weight = np.take(weight, tokens, axis=axis)
        if name == f"{patch_layer(model).name}/kernel":
            weight = weight.reshape(len(pixels), -1)[pixels].reshape(weight.shape)
        values[name] = weight
    assign_weights(to, values)


def _check_places(model, stem, tokens: np.ndarray, pixels: np.ndarray) -> None:
    """Raises ValueError unless reordered weights compensate for a permuted image.

    The trial uses random weights, because a head of zeros would hide a difference. It uses float32, because rounding in
    half precision would look like a difference.
    """
    probe = clone_uncompiled(model, clone_function=_in_float32)
    rng = np.random.default_rng(0)
    for weight in probe.weights:
        if keras.backend.is_float_dtype(weight.dtype):  # the state of a random generator is not
            weight.assign(keras.ops.convert_to_numpy(weight) + rng.normal(0.0, 0.1, weight.shape))
    from_stem = keras.Model(probe.get_layer(stem.name).input, probe.output)
    images = rng.normal(
        size=(1, *(side * n for side, n in zip(stem.patch_size, stem.grid, strict=True)), stem.kernel.shape[2])
    )
    shuffled = _permuted(images, stem, tokens, pixels)
    originals, unaided = _outputs(from_stem, images), _outputs(from_stem, shuffled)
    _copy_reordered(probe, probe, tokens, pixels)
    for original, before, after in zip(originals, unaided, _outputs(from_stem, shuffled), strict=True):
        expected = original
        if original.ndim > 2 and np.prod(original.shape[1:-1]) == len(tokens):  # tokens, or a map of them
            expected = original.reshape(len(tokens), -1)[tokens].reshape(original.shape)
        error, unaided_error = np.abs(after - expected).max(), np.abs(before - expected).max()
        # Rounding errors are far below this bound, real differences far above.
        if error > 0.1 * unaided_error + 1e-3 * np.abs(original).max():
            raise ValueError(
                f"{model.name!r} depends on the position of each patch, so that its weights cannot compensate for "
                f"patches in another order. Pool the tokens before the head, instead of flattening them."
            )


def _in_float32(layer):
    config = {**layer.get_config(), "dtype": "float32"}
    config.pop("sublayers", None)  # the sublayers then have no dtype of their own
    return type(layer).from_config(config)


def _outputs(model, images: np.ndarray) -> list[np.ndarray]:
    outputs = keras.tree.flatten(model(keras.ops.convert_to_tensor(images, "float32")))
    return [keras.ops.convert_to_numpy(output) for output in outputs]


def _permuted(images: np.ndarray, stem, tokens: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Moves patch `tokens[i]` to position i, and pixel `pixels[i]` of each patch to position i in the patch."""
    (rows, columns), (height, width) = stem.grid, stem.patch_size
    patches = images.reshape(rows, height, columns, width, -1).swapaxes(1, 2)
    patches = patches.reshape(rows * columns, height * width, -1)[tokens][:, pixels]
    return patches.reshape(rows, columns, height, width, -1).swapaxes(1, 2).reshape(images.shape)


def _permutation(name: str, value, length: int) -> np.ndarray:
    if value is None:
        return np.arange(length)
    permutation = np.asarray(value)
    if permutation.shape != (length,) or not np.array_equal(np.sort(permutation), np.arange(length)):
        raise ValueError(
            f"`{name}` must hold each of the integers 0 to {length - 1} once, but got "
            f"{'an array' if permutation.size > 8 else repr(permutation.tolist())} of shape {permutation.shape}."
        )
    return permutation
