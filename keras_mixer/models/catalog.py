"""All architectures and variants by name, so that nothing that builds a model needs to know which there are."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_mixer.models.conv_mixer import CONV_MIXER_VARIANTS, ConvMixer
from keras_mixer.models.cycle_mlp import CYCLE_MLP_VARIANTS, CycleMLP
from keras_mixer.models.g_mlp import G_MLP_VARIANTS, GMLP
from keras_mixer.models.mixer import VARIANTS, Mixer
from keras_mixer.models.res_mlp import RES_MLP_VARIANTS, ResMLP
from keras_mixer.models.vision_permutator import VISION_PERMUTATOR_VARIANTS, VisionPermutator

_TABLES: tuple[tuple[Callable[..., keras.Model], Mapping[str, Any]], ...] = (
    (Mixer, VARIANTS),
    (ResMLP, RES_MLP_VARIANTS),
    (GMLP, G_MLP_VARIANTS),
    (ConvMixer, CONV_MIXER_VARIANTS),
    (VisionPermutator, VISION_PERMUTATOR_VARIANTS),
    (CycleMLP, CYCLE_MLP_VARIANTS),
)

# Every variant by name -> the architecture's builder and the variant's sizes.
ARCHITECTURES = {variant: (builder, row) for builder, rows in _TABLES for variant, row in rows.items()}


def build(variant: str, **arguments) -> keras.Model:
    """Builds a variant of any architecture with random weights.

    Args:
        variant: Name as "mixer_b16" or "cycle_mlp_b1".
        **arguments: Further arguments of the architecture's builder, as `input_shape` and `classes`.

    Raises:
        ValueError: If the variant is unknown or an argument out of range.

    Example:
        >>> keras_mixer.models.build("res_mlp_24", classes=10).count_params()
        29639530
    """
    builder, sizes = find_variant(variant)
    return builder(**{"name": variant, **sizes, **arguments})


def find_variant(variant: str) -> tuple[Callable[..., keras.Model], dict[str, Any]]:
    """Returns the builder of a variant's architecture and the variant's sizes, as arguments of that builder.

    Raises:
        ValueError: If the variant is unknown; the message lists those that exist.
    """
    if variant not in ARCHITECTURES:
        raise ValueError(f"Unknown variant {variant!r}. Known variants: {', '.join(ARCHITECTURES)}.")
    builder, row = ARCHITECTURES[variant]
    return builder, {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
