"""From datasets to batches: sources, preprocessing, augmentation, and the card of a trained model."""

import lazy_loader

# Names load on first use, and none of them needs TensorFlow before it is called; `__init__.pyi` lists them.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
