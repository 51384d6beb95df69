"""Architectures, one file each: block, then model, then its table of variants."""

from keras_mixer.models.cost import multiply_adds
from keras_mixer.models.mixer import VARIANTS, Mixer, MixerVariant

__all__ = ["VARIANTS", "Mixer", "MixerVariant", "multiply_adds"]
