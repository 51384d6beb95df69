"""What a Mixer has learned, as data and as pictures: weights (figures 5 and 7 of the paper), influence, features."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
