"""Keras layers that compose into MLP-Mixer (section 2 of the paper) and its siblings."""

from keras_mixer.layers.affine import Affine
from keras_mixer.layers.channel_dense import ChannelDense
from keras_mixer.layers.channel_mlp import ChannelMLP
from keras_mixer.layers.cycle_fc import CycleFC
from keras_mixer.layers.cycle_mixing import CycleMixing
from keras_mixer.layers.grouped_token_mixing import GroupedTokenMixing
from keras_mixer.layers.layer_norm import LayerNorm
from keras_mixer.layers.mixer_block import MixerBlock
from keras_mixer.layers.mixing import ChannelMixing, TokenMixing
from keras_mixer.layers.patch_embedding import PatchEmbedding
from keras_mixer.layers.patch_map import PatchMap
from keras_mixer.layers.patch_merging import PatchMerging
from keras_mixer.layers.spatial_gating import SpatialGatingUnit
from keras_mixer.layers.stochastic_depth import StochasticDepth
from keras_mixer.layers.token_linear import TokenLinear
from keras_mixer.layers.token_shortcut import TokenShortcut
from keras_mixer.layers.untied_token_mixing import UntiedTokenMixing
from keras_mixer.layers.weighted_permute import WeightedPermuteMLP

__all__ = [
    "Affine",
    "ChannelDense",
    "ChannelMLP",
    "ChannelMixing",
    "CycleFC",
    "CycleMixing",
    "GroupedTokenMixing",
    "LayerNorm",
    "MixerBlock",
    "PatchEmbedding",
    "PatchMap",
    "PatchMerging",
    "SpatialGatingUnit",
    "StochasticDepth",
    "TokenLinear",
    "TokenMixing",
    "TokenShortcut",
    "UntiedTokenMixing",
    "WeightedPermuteMLP",
]
