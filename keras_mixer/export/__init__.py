"""Trained classifiers as files that a server, a phone or another runtime runs, each with its accuracy measured."""

from keras_mixer.artefacts import (
    FORMATS,
    Format,
    export_coreml,
    export_litert,
    export_onnx,
    export_openvino,
    export_saved_model,
    export_web,
)
from keras_mixer.export.bundle import write_serving_bundle
from keras_mixer.export.exporting import export
from keras_mixer.export.hub import push_to_hub
from keras_mixer.export.report import Report, Row
