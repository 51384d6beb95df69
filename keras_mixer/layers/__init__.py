"""Keras layers that compose into MLP-Mixer (section 2 of the paper) and its siblings."""

import lazy_loader

# On first use, so that the records of `keras_mixer.models` can be read without Keras.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
