"""LiteRT files for phones and embedded devices: float32, float16 and two kinds of int8."""

import os
import pathlib
import tempfile
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from keras_mixer import wire
from keras_mixer.artefacts import litert_metadata
from keras_mixer.artefacts.predictor import Scores, in_batches, in_float32, on_one_tensor
from keras_mixer.artefacts.record import FLOAT_LIMIT, Format, check_suffix
from keras_mixer.card import ModelCard
from keras_mixer.extras import require
from keras_mixer.files import written_whole
from keras_mixer.shapes import positive_integer

if TYPE_CHECKING:
    import keras

PRECISIONS = ("float32", "float16", "dynamic_int8", "int8")

# These operations stay in float32 when everything else is int8. LiteRT's CPU kernels run products, transposes and
# reshapes in int8, but lack a fast int8 GELU and LayerNorm, and the variance of a token does not fit in 8 bits. In
# float32 these operations are faster and exact, at the cost of one conversion on each side of a product.
FLOAT_OPERATIONS = (
    *("ADD", "DIV", "MEAN", "MUL", "NEG", "POW", "RSQRT", "SQRT", "SQUARE", "SQUARED_DIFFERENCE", "SUB", "SUM"),
    *("GELU", "LOGISTIC", "SOFTMAX", "TANH"),
)


def export_litert(
    model: "keras.Model",
    path: str | os.PathLike,
    *,
    precision: str = "float32",
    samples: Iterable[np.ndarray] | None = None,
    batch_size: int | None = 1,
    card: ModelCard | None = None,
) -> pathlib.Path:
    """Writes a LiteRT file. A failure leaves no partial file.

    Every precision takes float32 images and returns float32 scores. "float16" stores weights in 16 bits and computes in
    float32. "dynamic_int8" stores weights in 8 bits, with one scale per output channel, and computes the scales of
    activations anew for each image. "int8" computes the scales of activations beforehand, from `samples`. Matrix
    products are then int8 throughout, while LayerNorm, GELU, residual sums and softmax stay in float32.

    Args:
        model: A functional model of one input and one output.
        path: The file, ending in `.tflite`.
        precision: "float32", "float16", "dynamic_int8" or "int8".
        samples: For "int8", batches of preprocessed images `(n, height, width, channels)` that are typical of the
            model's inputs. One or two hundred images are enough.
        batch_size: Images per call. None allows any number, but adds reshapes to the graph and prevents the fusion of
            LayerNorm.
        card: The model's card. The file then contains class names, normalisation and the other preprocessing as TFLite
            metadata.

    Returns:
        The path.

    Raises:
        ValueError: If the precision is unknown, the file name does not end in `.tflite`, or "int8" lacks samples.
        ImportError: If TensorFlow is not installed.

    Example:
        >>> keras_mixer.export.export_litert(model, "model.tflite", precision="dynamic_int8")
    """
    path = pathlib.Path(path)
    if precision not in PRECISIONS:
        raise ValueError(f"`precision` is one of {', '.join(PRECISIONS)}, but got {precision!r}.")
    check_suffix(path, ".tflite")
    batch_size = None if batch_size is None else positive_integer("batch_size", batch_size)
    images = [image for batch in samples or () for image in np.asarray(batch, np.float32)]
    if precision == "int8" and not images:
        raise ValueError("Precision int8 needs `samples`: preprocessed images to measure the scales of activations on.")
    require("tensorflow", extra="tensorflow", purpose="Writing a LiteRT file")
    with tempfile.TemporaryDirectory() as folder:
        content = _converted(
            _converter(in_float32(on_one_tensor(model)), batch_size, folder), precision, _calls(images, batch_size or 1)
        )
    if card is not None:
        content = litert_metadata.described(content, card)
    with written_whole(path) as partial:
        partial.write_bytes(content)
    return path


def _calls(images: list[np.ndarray], batch_size: int) -> list[np.ndarray]:
    """Divides images into calls of `batch_size`. The last call is filled up with the first images."""
    return [
        np.stack([images[index % len(images)] for index in range(start, start + batch_size)])
        for start in range(0, len(images), batch_size)
    ]


def _converter(model: "keras.Model", batch_size: int | None, folder: str):
    import keras
    import tensorflow as tf

    # The converter is made from a SavedModel. From concrete functions it would silently read Keras's variables as NaN.
    archive = keras.export.ExportArchive()
    archive.track(model)
    images = keras.InputSpec(shape=(batch_size, *model.input_shape[1:]), dtype="float32", name="images")
    archive.add_endpoint("serve", lambda images: {wire.SCORES: model(images, training=False)}, input_signature=[images])
    archive.write_out(folder, verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    # An operation that needs TensorFlow's own kernels then fails here and not on the device.
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter


def _converted(converter, precision: str, calls: list[np.ndarray]) -> bytes:
    import tensorflow as tf

    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision != "int8":
        return converter.convert()
    converter.representative_dataset = lambda: ([images] for images in calls)
    # The converter cannot keep single operations in float32, but TensorFlow Lite's quantisation debugger can.
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=list(FLOAT_OPERATIONS))
    with warnings.catch_warnings():
        # The debugger uses the interpreter that ai-edge-litert has replaced, which warns.
        warnings.filterwarnings(
            "ignore", message=r"\s*Warning: tf.lite.Interpreter is deprecated", category=UserWarning
        )
        debugger = tf.lite.experimental.QuantizationDebugger(converter=converter, debug_options=options)
        return debugger.get_nondebug_quantized_model()


def _open(path: pathlib.Path, threads: int | None) -> Scores:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads)
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()

    def scores(images: np.ndarray) -> np.ndarray:
        if tuple(interpreter.get_input_details()[0]["shape"]) != images.shape:
            interpreter.resize_tensor_input(source["index"], images.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(source["index"], _quantized(images, source))
        interpreter.invoke()
        return _dequantized(interpreter.get_tensor(target["index"]), target)

    interpreter.allocate_tensors()
    any_size = source["shape_signature"][0] == -1
    return in_batches(scores, None if any_size else int(source["shape"][0]))


def min_runtime(path: pathlib.Path) -> str | None:
    """Returns the oldest release of TensorFlow Lite that loads a file, such as "2.17.0", from its metadata."""
    from ai_edge_litert.schema_py_generated import Model

    model = Model.GetRootAsModel(path.read_bytes(), 0)
    for metadata in map(model.Metadata, range(model.MetadataLength())):
        if metadata.Name() == b"min_runtime_version":
            return model.Buffers(metadata.Buffer()).DataAsNumpy().tobytes().rstrip(b"\0").decode() or None
    return None


def _quantized(values: np.ndarray, details: dict) -> np.ndarray:
    """Converts float32 values to the type of a model's input."""
    if details["dtype"] == np.float32:
        return values.astype(np.float32, copy=False)
    scale, zero = details["quantization"]
    limits = np.iinfo(details["dtype"])
    return np.clip(np.round(values / scale) + zero, limits.min, limits.max).astype(details["dtype"])


def _dequantized(values: np.ndarray, details: dict) -> np.ndarray:
    if details["dtype"] == np.float32:
        return values
    scale, zero = details["quantization"]
    return ((values.astype(np.float32) - zero) * scale).astype(np.float32)


def _format(name: str, file: str, precision: str, limit: float) -> Format:
    def write(model, path, card, samples, batch_size=1):
        calibrating = None if samples is None else [samples]
        return export_litert(model, path, precision=precision, samples=calibrating, batch_size=batch_size, card=card)

    return Format(
        name,
        file,
        write,
        _open,
        limit,
        calibrated=precision == "int8",
        settings=("batch_size",),
        needs=("ai_edge_litert",),
        install="pip install ai-edge-litert",
        min_runtime=min_runtime,
        embedded_card=litert_metadata.embedded_card,
    )


LITERT = (
    _format("litert", "model.tflite", "float32", FLOAT_LIMIT),
    _format("litert_float16", "model_float16.tflite", "float16", FLOAT_LIMIT),
    _format("litert_dynamic_int8", "model_dynamic_int8.tflite", "dynamic_int8", 0.3),
    _format("litert_int8", "model_int8.tflite", "int8", 0.5),
)
