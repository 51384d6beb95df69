"""Trained classifiers as files that a server, a phone or another runtime runs, each with its accuracy measured."""

from keras_mixer.export.artefacts import export
from keras_mixer.export.bundle import write_serving_bundle
from keras_mixer.export.formats import FORMATS, Format
from keras_mixer.export.litert import export_litert
from keras_mixer.export.onnx import export_onnx, export_openvino
from keras_mixer.export.report import Report, Row
from keras_mixer.export.saved_model import export_saved_model

__all__ = [
    "FORMATS",
    "Format",
    "Report",
    "Row",
    "export",
    "export_litert",
    "export_onnx",
    "export_openvino",
    "export_saved_model",
    "write_serving_bundle",
]
