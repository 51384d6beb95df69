"""How good and how fast a classifier is, in any of its forms: Keras model, SavedModel, LiteRT, ONNX, OpenVINO."""

from keras_mixer.evaluation.accuracy import Accuracy, measure
from keras_mixer.evaluation.latency import Latency, measure_latency
from keras_mixer.evaluation.predictors import Predictor, keras_predictor, newest_version, open_artefact

__all__ = [
    "Accuracy",
    "Latency",
    "Predictor",
    "keras_predictor",
    "measure",
    "measure_latency",
    "newest_version",
    "open_artefact",
]
