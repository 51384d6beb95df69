"""The variants of MLP-Mixer with their published weights, behind the signature of `keras.applications`."""

import dataclasses
import math
import os
from collections.abc import Callable
from pathlib import Path

import keras

from keras_mixer.models import VARIANTS, Mixer
from keras_mixer.models.images import fixed_shape
from keras_mixer.preprocessing import Preprocessing
from keras_mixer.weights.cache import path_to_load
from keras_mixer.weights.fit_to_grid import square_grid
from keras_mixer.weights.fresh_head import load_with_fresh_head
from keras_mixer.weights.grids import parts_between
from keras_mixer.weights.inspection import CheckpointSizes, sizes_of
from keras_mixer.weights.loading import is_path
from keras_mixer.weights.registry import available, find

CONSTRUCTORS: dict[str, Callable[..., keras.Model]] = {}  # variant, as "mixer_b16" -> its constructor

_DOC = """Builds {title}, with random, published or your own weights.

    {sizes}

    Args:
        include_top: Whether to end in the classification head.
        weights: None for random weights; the name of a published set, {published}; or the path of a checkpoint, see
            `keras_mixer.weights.load`.
        input_tensor: Keras tensor of images to build on, instead of a new input of `input_shape`.
        input_shape: Image shape (height, width, channels); None for that of the weights, else {input_shape}. Weights
            of another resolution are taken to this one as by `keras_mixer.weights.change_resolution`.
        pooling: Without the head: None for the normalised tokens, "avg" for their mean, "max" for their maximum.
        classes: Classes of the head; None for those of the weights, else 1,000. Where the weights have another number
            of them, or no head, the body is loaded and the head starts fresh, which a log line says.
        classifier_activation: Activation of the head; None for logits.
        stochastic_depth: Probability of dropping the last MLP for a sample while training, rising linearly from 0.
        dropout: Dropout rate inside the MLPs.
        name: Name of the model.

    Returns:
        A functional `keras.Model`; its attribute `preprocessing` says how its weights want their images, for
        `keras_mixer.preprocess_input`. A saved model does not keep it: after `keras.models.load_model`,
        `keras_mixer.weights.find("{variant}", weights).preprocessing` says it again.

    Raises:
        ValueError: If an argument is out of range, the set is unknown, or the checkpoint does not fit.
        OSError: If the weights cannot be read or fetched.

    Example:
        >>> model = keras_mixer.{constructor}(weights=None, classes=10)
    """


def _constructor(variant: str, title: str):
    """Makes the constructor of one row of `VARIANTS`, with a signature and a docstring of its own."""

    def construct(
        include_top: bool = True,
        weights: str | os.PathLike | None = None,
        input_tensor=None,
        input_shape: tuple[int, int, int] | None = None,
        pooling: str | None = None,
        classes: int | None = None,
        classifier_activation="softmax",
        stochastic_depth: float = 0.0,
        dropout: float = 0.0,
        name: str = variant,
    ) -> keras.Model:
        sizes = dataclasses.asdict(VARIANTS[variant])
        del sizes["input_shape"]
        input_shape = _static_shape(input_shape, input_tensor)
        path, preprocessing = _checkpoint(variant, weights)
        stored = sizes_of(path) if path else CheckpointSizes()
        trained_at = _image_size(weights, preprocessing, stored, input_shape, sizes["patch_size"])
        if input_shape is None:
            input_shape = (*trained_at, 3)
        if stored.tokens_mlp_dim:
            growth = _growth(trained_at, input_shape[:2], sizes["patch_size"])
            sizes["tokens_mlp_dim"] = stored.tokens_mlp_dim * growth
        model = Mixer(
            **sizes,
            input_shape=input_shape,
            input_tensor=input_tensor,
            include_top=include_top,
            classes=classes if classes is not None else stored.classes or 1_000,
            classifier_activation=classifier_activation,
            pooling=pooling,
            stochastic_depth=stochastic_depth,
            dropout=dropout,
            name=name,
        )
        if path:
            load_with_fresh_head(model, path, resize=trained_at)
        model.preprocessing = dataclasses.replace(
            preprocessing, image_size=(input_shape[0], input_shape[1]), channels=input_shape[2]
        )
        return model

    name = title.replace("-", "").replace("/", "")
    construct.__name__ = construct.__qualname__ = name
    construct.__doc__ = _DOC.format(
        title=title,
        variant=variant,
        sizes=_sizes(variant),
        published=_published(variant),
        input_shape=VARIANTS[variant].input_shape,
        constructor=name,
    )
    CONSTRUCTORS[variant] = construct
    return construct


def _sizes(variant: str) -> str:
    row = VARIANTS[variant]
    return (
        f"{row.num_blocks} blocks, patches of {row.patch_size} x {row.patch_size} pixels, {row.hidden_dim} channels, "
        f"MLPs of {row.tokens_mlp_dim} and {row.channels_mlp_dim} units."
    )


def _published(variant: str) -> str:
    names = ", ".join(f'"{entry.name}"' for entry in available(variant))
    return f"one of {names}" if names else "of which this variant has none"


def _checkpoint(variant: str, weights) -> tuple[Path | None, Preprocessing]:
    """Returns the file that `weights` names, None for random weights, and the preprocessing that it wants."""
    usual = Preprocessing(image_size=VARIANTS[variant].input_shape[:2])
    if weights is None:
        return None, usual
    if is_path(weights):
        return Path(weights), usual
    return path_to_load(variant, weights), find(variant, weights).preprocessing


def _image_size(weights, preprocessing, stored, input_shape, patch_size: int) -> tuple[int, int]:
    """Returns the height and width in pixels that the weights were trained at, as far as anything tells."""
    if stored.tokens is None or not is_path(weights):
        return preprocessing.image_size
    if input_shape and math.prod(side // patch_size for side in input_shape[:2]) == stored.tokens:
        return tuple(input_shape[:2])
    try:
        rows, columns = square_grid(stored.tokens)
    except ValueError as error:
        raise ValueError(
            f"The {stored.tokens} tokens of {weights} are no square grid: build the model with the `input_shape` of "
            "the images it was trained on, and take it to another size by `keras_mixer.weights.change_resolution`."
        ) from error
    return rows * patch_size, columns * patch_size


def _growth(old: tuple[int, int], new: tuple[int, int], patch_size: int) -> int:
    """Returns how many times more hidden units the token MLPs need at the new image size."""
    if any(side % patch_size for side in new):
        return 1  # the model says what is wrong
    parts = parts_between(old, new)
    return math.prod(parts) if parts else 1


def _static_shape(input_shape, input_tensor) -> tuple[int, int, int] | None:
    """Returns the image shape that the caller fixes, None where the weights may decide."""
    input_shape = fixed_shape(input_shape, input_tensor)
    if input_shape is not None and (len(input_shape) != 3 or not all(isinstance(side, int) for side in input_shape)):
        raise ValueError(
            "A Mixer needs images of one static size: `input_shape` must be (height, width, channels), "
            f"but got {input_shape}."
        )
    return input_shape


MixerS32 = _constructor("mixer_s32", "Mixer-S/32")
MixerS16 = _constructor("mixer_s16", "Mixer-S/16")
MixerS8 = _constructor("mixer_s8", "Mixer-S/8")
MixerB32 = _constructor("mixer_b32", "Mixer-B/32")
MixerB16 = _constructor("mixer_b16", "Mixer-B/16")
MixerL32 = _constructor("mixer_l32", "Mixer-L/32")
MixerL16 = _constructor("mixer_l16", "Mixer-L/16")
MixerH14 = _constructor("mixer_h14", "Mixer-H/14")
MixerNano = _constructor("mixer_nano", "Mixer-Nano")
