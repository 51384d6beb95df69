"""The package's Mixer under OpenVINO, at the precision of the row."""

import pathlib
import tempfile

import openvino
from workers.keras_mixer_tensorflow import build
from workers.tensorflow_steps import images_of

from keras_mixer.export import export_openvino

HINTS = {"float32": "f32", "bfloat16": "bf16"}


def prepare(row):
    """One synchronous inference."""
    images = images_of(row)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.xml"
        export_openvino(build({**row, "dtype": "float32"}), path)
        compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": HINTS[row["dtype"]]})
    request = compiled.create_infer_request()
    return lambda: request.infer([images]) is None, None
