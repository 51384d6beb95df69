# Written by tools/stubs.py.
# ruff: noqa: I001
from .channel_mlp import ChannelDense as ChannelDense
from .channel_mlp import ChannelMLP as ChannelMLP
from .feature_maps import CycleFC as CycleFC
from .feature_maps import CycleMixing as CycleMixing
from .feature_maps import WeightedPermuteMLP as WeightedPermuteMLP
from .mixing import ChannelMixing as ChannelMixing
from .mixing import GroupedTokenMixing as GroupedTokenMixing
from .mixing import MixerBlock as MixerBlock
from .mixing import TokenMixing as TokenMixing
from .mixing import UntiedTokenMixing as UntiedTokenMixing
from .normalisation import Affine as Affine
from .normalisation import LayerNorm as LayerNorm
from .patches import PatchEmbedding as PatchEmbedding
from .patches import PatchMap as PatchMap
from .patches import PatchMerging as PatchMerging
from .regularisation import StochasticDepth as StochasticDepth
from .token_linear import SpatialGatingUnit as SpatialGatingUnit
from .token_linear import TokenLinear as TokenLinear
from .token_linear import TokenShortcut as TokenShortcut
