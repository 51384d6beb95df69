"""Makes the constructors of all variants from the catalogue, with the signature of `keras.applications`."""

import contextlib
import functools
import inspect
import math
import os
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from keras_mixer.models.catalogue import ARCHITECTURES, at_shape, find_row, find_variant, preprocessing_of
from keras_mixer.models.parts import dtype_policy, fixed_shape
from keras_mixer.weights.loading import load_with_fresh_head
from keras_mixer.weights.published.cache import available, file_of, set_of
from keras_mixer.weights.reading.checkpoint import Checkpoint, open_checkpoint
from keras_mixer.weights.resolution.grids import parts_between, square_grid

if TYPE_CHECKING:
    import keras

_DOC = """Builds {title}, with random, published or your own weights.

    {sizes}

    Args:
        weights: None for random weights; the path of a checkpoint, in any format of `keras_mixer.weights.load`; an
            address on the Hugging Face hub, hf://OWNER/REPO[@REVISION][/FILE]; or the name of a published set.
            {published}
        input_shape: Image shape (height, width, channels); None for {input_shape}.
            Weights for another resolution are converted as by `keras_mixer.weights.change_resolution`, and weights for
            another number of channels as by `keras_mixer.weights.load` with `adapt_channels=True`.
        pooling: Without the head: None for the normalised tokens or feature maps, "avg" or "max" for the mean or
            maximum of the tokens or of the last map.
        classes: Number of classes; None for that of the weights, or 1,000 without weights. If the weights have another
            number of classes, or no head, only the other layers are loaded, the head keeps its initial weights, and a
            warning is logged.
        include_top, input_tensor, classifier_activation, stochastic_depth, dropout, dtype, name: As in
            `keras_mixer.Mixer`.

    Returns:
        A functional `keras.Model`. Its attribute `preprocessing` describes the images that its weights expect. Pass it
        to `keras_mixer.preprocess_input`. Copies and saved files keep the attribute.

    Raises:
        ValueError: If an argument is out of range, the set is unknown, or the checkpoint does not fit.
        OSError: If the weights cannot be read or downloaded.

    Example:
        >>> model = keras_mixer.{constructor}(weights=None, classes=10)
    """


Constructor = Callable[..., "keras.Model"]  # `applications.pyi` has the signatures


class Constructors(Mapping[str, Constructor]):
    """The constructors of the catalogue's variants, registered ones included, by the name of the variant."""

    def __getitem__(self, variant: str) -> Constructor:
        if variant not in ARCHITECTURES:
            raise KeyError(variant)
        return _constructor(variant)

    def __iter__(self) -> Iterator[str]:
        return iter(ARCHITECTURES)

    def __len__(self) -> int:
        return len(ARCHITECTURES)

    def named(self, name: str) -> Constructor:
        """Returns a constructor by its own name, such as "MixerB16"; raises AttributeError if it is unknown."""
        for variant in self:
            if find_row(variant)[1].constructor == name:
                return self[variant]
        raise AttributeError(f"The catalogue does not have a constructor {name!r}.")


CONSTRUCTORS = Constructors()


@functools.cache
def _constructor(variant: str) -> Constructor:
    architecture, row = find_row(variant)
    builder, sizes = find_variant(variant)
    default_shape = sizes.pop("input_shape", inspect.signature(builder).parameters["input_shape"].default)

    def construct(
        include_top: bool = True,
        weights: str | os.PathLike | None = None,
        input_tensor=None,
        input_shape: tuple[int | None, int | None, int] | None = None,
        pooling: str | None = None,
        classes: int | None = None,
        classifier_activation="softmax",
        stochastic_depth: float = 0.0,
        dropout: float = 0.0,
        dtype=None,
        name: str = variant,
    ) -> "keras.Model":
        shape = fixed_shape(input_shape, input_tensor)
        preprocessing = preprocessing_of(variant, default_shape)
        entry = set_of(variant, weights)
        path = weights if entry is None else file_of(entry)
        stated = None if entry is None else entry.preprocessing
        opened = contextlib.nullcontext() if path is None else open_checkpoint(path, stated)
        with dtype_policy(dtype), opened as checkpoint:
            arguments: dict = dict(sizes)
            resize: bool | tuple[int, int] = True
            if checkpoint and checkpoint.preprocessing:
                preprocessing = checkpoint.preprocessing
            known = default_shape[:2] if entry is None or None in default_shape else preprocessing.image_size
            default = (*known, (checkpoint and checkpoint.image_channels) or default_shape[2])
            if checkpoint and architecture.token_kernel:
                usual = default if entry else shape  # the size that the weights are likely to be for
                trained_at, hidden = _trained_sizes(checkpoint, architecture.token_kernel, usual, sizes["patch_size"])
                trained_at = trained_at or preprocessing.image_size
                shape, resize = shape or (*trained_at, default[2]), trained_at
                if hidden:
                    arguments["tokens_mlp_dim"] = hidden * _growth(trained_at, shape[:2], sizes["patch_size"])
            model = builder(
                **arguments,
                input_shape=shape or default,
                input_tensor=input_tensor,
                include_top=include_top,
                classes=classes if classes is not None else (checkpoint and checkpoint.classes) or 1_000,
                classifier_activation=classifier_activation,
                pooling=pooling,
                stochastic_depth=stochastic_depth,
                dropout=dropout,
                name=name,
            )
            if checkpoint:
                load_with_fresh_head(model, checkpoint, resize=resize)
        images = model.inputs[0] if input_tensor is None else input_tensor
        model.preprocessing = at_shape(preprocessing, images.shape[1:])
        return model

    published = ", ".join(f'"{entry.name}"' for entry in available(variant))
    listed = f"Published sets of this variant: {published}." if published else "This variant does not have any."
    listed_sizes = f"Sizes: {', '.join(f'{name} {size}' for name, size in sizes.items())}."
    construct.__name__ = construct.__qualname__ = row.constructor
    construct.__module__ = "keras_mixer.applications"  # where pickle finds it by its name
    construct.__doc__ = _DOC.format(
        title=row.title,
        constructor=row.constructor,
        sizes=textwrap.fill(listed_sizes, 112, subsequent_indent=" " * 4),
        published=textwrap.fill(listed, 108, subsequent_indent=" " * 12),
        input_shape=f"that of the weights, else {default_shape}" if architecture.token_kernel else default_shape,
    )
    return construct


def _trained_sizes(checkpoint: Checkpoint, layer: str, shape, patch_size: int):
    """Returns the image size of a checkpoint and the hidden units of its token MLPs, each None if not known."""
    tokens, hidden = checkpoint.kernel_shape(layer)
    if tokens is None:
        return None, hidden
    if shape and None not in shape[:2] and math.prod(side // patch_size for side in shape[:2]) == tokens:
        return tuple(shape[:2]), hidden
    try:
        rows, columns = square_grid(tokens)
    except ValueError as error:
        raise ValueError(
            f"The {tokens} tokens of {checkpoint.path} are not a square grid: build the model with the `input_shape` "
            "that it was trained on, and take it to another size with `keras_mixer.weights.change_resolution`."
        ) from error
    return (rows * patch_size, columns * patch_size), hidden


def _growth(old: tuple[int, int], new, patch_size: int) -> int:
    """Returns the factor by which the hidden units of the token MLPs grow at the new image size."""
    if any(side is None or side % patch_size for side in new):
        return 1  # the builder refuses the size
    parts = parts_between(old, new)
    return math.prod(parts) if parts else 1
