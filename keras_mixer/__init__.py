"""MLP-Mixer (Tolstikhin et al., 2021, arXiv 2105.01601) for Keras 3 and TensorFlow.

Names are imported on first use, so that `import keras_mixer` and `keras-mixer --help` are fast. `__init__.pyi` lists
them. Layers and models are registered with Keras when Keras is imported, before or after this package. Therefore
`import keras_mixer` is enough for `keras.models.load_model` to read a saved Mixer.
"""

import importlib

import lazy_loader
import wrapt

_imported, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
# `from keras_mixer import *` imports only what does not need TensorFlow.
__all__ = [name for name in __all__ if name not in ("data", "engines", "evaluation", "export", "prediction")]


def __getattr__(name: str):
    if name != "__version__":
        return _imported(name)
    from importlib import metadata

    try:
        return metadata.version(__name__)
    except metadata.PackageNotFoundError as error:
        raise AttributeError(f"{__name__} has no version, because it is not installed: run `pip install`.") from error


@wrapt.when_imported("keras")
def _register_classes(_keras):
    importlib.import_module("keras_mixer.layers")
    importlib.import_module("keras_mixer.models.image_model")
