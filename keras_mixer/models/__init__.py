"""Architectures, one file each: block, builder, variants, published weights and their names."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
