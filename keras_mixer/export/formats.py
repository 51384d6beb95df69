"""The formats of export: the file that each becomes, and the accuracy that it may cost."""

import dataclasses

FLOAT_LIMIT, DYNAMIC_INT8_LIMIT, INT8_LIMIT = 0.1, 0.3, 0.5


@dataclasses.dataclass(frozen=True)
class Format:
    """One artefact of an export.

    Attributes:
        file: Its name in the model's folder; "" for a SavedModel, whose name is its version.
        limit: Points of top-1 accuracy, of a hundred, that it may lose against the Keras model.
        litert_precision: Its precision, if it is a LiteRT file.
        needs: Modules to import, beyond what TensorFlow's install brings, and the command that installs them.
    """

    file: str
    limit: float
    litert_precision: str | None = None
    needs: tuple[tuple[str, ...], str] = ((), "")


_LITERT = (("ai_edge_litert",), "pip install ai-edge-litert")

FORMATS = {
    "saved_model": Format("", FLOAT_LIMIT),
    "litert": Format("model.tflite", FLOAT_LIMIT, "float32", _LITERT),
    "litert_float16": Format("model_float16.tflite", FLOAT_LIMIT, "float16", _LITERT),
    "litert_dynamic_int8": Format("model_dynamic_int8.tflite", DYNAMIC_INT8_LIMIT, "dynamic_int8", _LITERT),
    "litert_int8": Format("model_int8.tflite", INT8_LIMIT, "int8", _LITERT),
    "onnx": Format(
        "model.onnx",
        FLOAT_LIMIT,
        needs=(("onnx", "tf2onnx", "onnxruntime"), 'pip install "keras_mixer[onnx]"'),
    ),
    "openvino": Format("model.xml", FLOAT_LIMIT, needs=(("openvino",), 'pip install "keras_mixer[openvino]"')),
}
