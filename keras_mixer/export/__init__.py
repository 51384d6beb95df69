"""Trained classifiers as files that a server, a phone or another runtime runs, each with its accuracy measured."""

from keras_mixer.export.litert import export_litert
from keras_mixer.export.saved_model import export_saved_model

__all__ = ["export_litert", "export_saved_model"]
