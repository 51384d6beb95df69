"""What a Mixer has learned, as data and as pictures: weights (figures 5 and 7 of the paper), influence, features."""

from keras_mixer.visualization.attribution import influence_maps, occlusion_saliency
from keras_mixer.visualization.pictures import (
    draw_feature_pca,
    draw_influence,
    draw_occlusion,
    draw_stem_units,
    draw_token_units,
    save_figure,
)
from keras_mixer.visualization.units import (
    FeaturePCA,
    UnitPairs,
    feature_pca,
    pair_units,
    spatial_frequency,
    stem_units,
    token_mixing_units,
)

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
