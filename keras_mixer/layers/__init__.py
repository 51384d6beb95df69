"""Keras layers that compose into MLP-Mixer (section 2 of the paper) and its siblings."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
for _name in __all__:
    __getattr__(_name)  # all at once, because importing a layer registers it with Keras
