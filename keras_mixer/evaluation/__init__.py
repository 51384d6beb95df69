"""How good and how fast a classifier is, in any format: Keras model, SavedModel, LiteRT, ONNX or OpenVINO."""

from keras_mixer.artefacts import (
    Predictor,
    keras_predictor,
    newest_version,
    on_one_tensor,
    open_artefact,
    open_classifier,
)
from keras_mixer.evaluation.accuracy import Accuracy, measure
from keras_mixer.evaluation.calibration import Calibration, calibration, confusion_matrix
from keras_mixer.evaluation.fewshot import FewShot, choose_shots, extract_features, feature_model, few_shot_probe
from keras_mixer.evaluation.invariance import Curve, invariance_experiment, permute_pixels, pixel_order
from keras_mixer.evaluation.labels import class_subset, on_classes, real_accuracy, real_dataset, real_label_sets
from keras_mixer.evaluation.pictures import save_prediction_sheet
from keras_mixer.evaluation.split import EvaluationSplit, labelled_batches
from keras_mixer.evaluation.throughput import (
    Latency,
    Throughput,
    framework_flops,
    growth_exponent,
    matmul_peak,
    measure_latency,
    measure_throughput,
)

__all__ = [
    "Accuracy",
    "Calibration",
    "Curve",
    "EvaluationSplit",
    "FewShot",
    "Latency",
    "Predictor",
    "Throughput",
    "calibration",
    "choose_shots",
    "class_subset",
    "confusion_matrix",
    "extract_features",
    "feature_model",
    "few_shot_probe",
    "framework_flops",
    "growth_exponent",
    "invariance_experiment",
    "keras_predictor",
    "labelled_batches",
    "matmul_peak",
    "measure",
    "measure_latency",
    "measure_throughput",
    "newest_version",
    "on_classes",
    "on_one_tensor",
    "open_artefact",
    "open_classifier",
    "permute_pixels",
    "pixel_order",
    "real_accuracy",
    "real_dataset",
    "real_label_sets",
    "save_prediction_sheet",
]
