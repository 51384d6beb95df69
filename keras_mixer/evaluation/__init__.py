"""How good and how fast a classifier is, in any format: Keras model, SavedModel, LiteRT, ONNX or OpenVINO."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
