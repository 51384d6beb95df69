"""The formats of trained models, one file each: how to write one, open it, and what it may cost in accuracy."""

import lazy_loader

# Names load on first use, and none of them needs Keras or TensorFlow before it is called; `__init__.pyi` lists them.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
