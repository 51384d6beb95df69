# Written by tools/stubs.py.
from .attribution import influence_maps as influence_maps
from .attribution import occlusion_saliency as occlusion_saliency
from .pictures import draw_feature_pca as draw_feature_pca
from .pictures import draw_influence as draw_influence
from .pictures import draw_occlusion as draw_occlusion
from .pictures import draw_stem_units as draw_stem_units
from .pictures import draw_token_units as draw_token_units
from .pictures import save_figure as save_figure
from .units import FeaturePCA as FeaturePCA
from .units import UnitPairs as UnitPairs
from .units import feature_pca as feature_pca
from .units import pair_units as pair_units
from .units import spatial_frequency as spatial_frequency
from .units import stem_units as stem_units
from .units import token_mixing_units as token_mixing_units
