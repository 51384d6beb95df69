"""Weights: published sets, checkpoint files of several formats and layouts, strict loading, change of resolution."""

import lazy_loader

# Imports happen on first use, so that listing and downloading do not wait for Keras.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
