# Written by tools/stubs.py.
from .loading import load as load
from .loading import load_with_fresh_head as load_with_fresh_head
from .loading import save_npz as save_npz
from .published.cache import InputPreprocessing as InputPreprocessing
from .published.cache import WeightSet as WeightSet
from .published.cache import available as available
from .published.cache import download as download
from .published.cache import find as find
from .published.cache import preprocess_input as preprocess_input
from .published.class_names import decode_predictions as decode_predictions
from .published.class_names import names_of as names_of
from .published.class_names import wordnet_ids as wordnet_ids
from .resolution.change import change_resolution as change_resolution
from .resolution.permutation import permute as permute
