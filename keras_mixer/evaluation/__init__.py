"""How good and how fast a classifier is, in any of its forms: Keras model, SavedModel, LiteRT, ONNX, OpenVINO."""

from keras_mixer.evaluation.accuracy import Accuracy, measure
from keras_mixer.evaluation.classifiers import open_classifier
from keras_mixer.evaluation.files import predict_file
from keras_mixer.evaluation.latency import Latency, measure_latency
from keras_mixer.evaluation.predictors import Predictor, keras_predictor, newest_version, on_one_tensor, open_artefact
from keras_mixer.evaluation.sheet import save_prediction_sheet
from keras_mixer.evaluation.split import EvaluationSplit

__all__ = [
    "Accuracy",
    "EvaluationSplit",
    "Latency",
    "Predictor",
    "keras_predictor",
    "measure",
    "measure_latency",
    "newest_version",
    "on_one_tensor",
    "open_artefact",
    "open_classifier",
    "predict_file",
    "save_prediction_sheet",
]
