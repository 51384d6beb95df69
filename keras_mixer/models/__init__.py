"""Architectures, one file each: block, builder, variants, published weights and their names."""

from keras_mixer.models.catalogue import (
    ARCHITECTURES,
    architectures,
    build,
    find_architecture,
    find_variant,
    multiply_adds,
    register,
)
from keras_mixer.models.conv_mixer import CONV_MIXER_VARIANTS, ConvMixer, ConvMixerVariant
from keras_mixer.models.cycle_mlp import CYCLE_MLP_VARIANTS, CycleMLP, CycleMLPVariant
from keras_mixer.models.g_mlp import G_MLP_VARIANTS, GMLP, GMLPVariant
from keras_mixer.models.mixer import VARIANTS, Mixer, MixerVariant
from keras_mixer.models.record import Architecture, Layout, Rule, Variant, WeightSet
from keras_mixer.models.res_mlp import RES_MLP_VARIANTS, ResMLP, ResMLPVariant
from keras_mixer.models.vision_permutator import (
    VISION_PERMUTATOR_VARIANTS,
    VisionPermutator,
    VisionPermutatorVariant,
)

__all__ = [
    "ARCHITECTURES",
    "CONV_MIXER_VARIANTS",
    "CYCLE_MLP_VARIANTS",
    "GMLP",
    "G_MLP_VARIANTS",
    "RES_MLP_VARIANTS",
    "VARIANTS",
    "VISION_PERMUTATOR_VARIANTS",
    "Architecture",
    "ConvMixer",
    "ConvMixerVariant",
    "CycleMLP",
    "CycleMLPVariant",
    "GMLPVariant",
    "Layout",
    "Mixer",
    "MixerVariant",
    "ResMLP",
    "ResMLPVariant",
    "Rule",
    "Variant",
    "VisionPermutator",
    "VisionPermutatorVariant",
    "WeightSet",
    "architectures",
    "build",
    "find_architecture",
    "find_variant",
    "multiply_adds",
    "register",
]
