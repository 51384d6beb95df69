"""The formats of trained models, one file each: how to write one, open it, and what it may cost in accuracy.

Importing this package loads neither Keras nor TensorFlow. What needs them imports them when it is called.
"""

from keras_mixer.artefacts.litert import export_litert
from keras_mixer.artefacts.onnx import export_onnx
from keras_mixer.artefacts.opening import (
    find,
    fingerprint,
    load_card,
    newest_version,
    open_artefact,
    open_classifier,
    packed,
    unpacked,
)
from keras_mixer.artefacts.openvino import export_openvino
from keras_mixer.artefacts.predictor import Predictor, keras_predictor, on_one_tensor
from keras_mixer.artefacts.record import Format
from keras_mixer.artefacts.saved_model import export_saved_model
from keras_mixer.artefacts.table import FORMATS, register

__all__ = [
    "FORMATS",
    "Format",
    "Predictor",
    "export_litert",
    "export_onnx",
    "export_openvino",
    "export_saved_model",
    "find",
    "fingerprint",
    "keras_predictor",
    "load_card",
    "newest_version",
    "on_one_tensor",
    "open_artefact",
    "open_classifier",
    "packed",
    "register",
    "unpacked",
]
