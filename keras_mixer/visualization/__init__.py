"""What a Mixer has learned, as data and as pictures: weights (figures 5 and 7 of the paper), influence, features."""

from keras_mixer.visualization.feature_pca import FeaturePCA, feature_pca
from keras_mixer.visualization.influence import influence_maps
from keras_mixer.visualization.occlusion import occlusion_saliency
from keras_mixer.visualization.pictures import (
    draw_feature_pca,
    draw_influence,
    draw_occlusion,
    draw_stem_units,
    draw_token_units,
    save_figure,
)
from keras_mixer.visualization.stem_units import stem_units
from keras_mixer.visualization.token_units import UnitPairs, pair_units, spatial_frequency, token_mixing_units

__all__ = [
    "FeaturePCA",
    "UnitPairs",
    "draw_feature_pca",
    "draw_influence",
    "draw_occlusion",
    "draw_stem_units",
    "draw_token_units",
    "feature_pca",
    "influence_maps",
    "occlusion_saliency",
    "pair_units",
    "save_figure",
    "spatial_frequency",
    "stem_units",
    "token_mixing_units",
]
