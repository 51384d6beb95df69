"""Keras layers that compose into MLP-Mixer (section 2 of the paper)."""

from keras_mixer.layers.mixer_block import MixerBlock
from keras_mixer.layers.mixing import ChannelMixing, TokenMixing
from keras_mixer.layers.patch_embedding import PatchEmbedding
from keras_mixer.layers.stochastic_depth import StochasticDepth

__all__ = ["ChannelMixing", "MixerBlock", "PatchEmbedding", "StochasticDepth", "TokenMixing"]
