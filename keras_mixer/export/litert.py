"""A Keras model as a LiteRT file for phones and embedded machines: float32, float16, or int8 in two ways."""

import os
import pathlib
import tempfile
import warnings
from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

from keras_mixer.evaluation import on_one_tensor
from keras_mixer.export.precision import in_float32
from keras_mixer.files import written_whole

PRECISIONS = ("float32", "float16", "dynamic_int8", "int8")

# What stays in float32 when everything else is int8. LiteRT's CPU kernels run products, transposes and reshapes in
# int8, but have no fast int8 form of the steps of a LayerNorm or of GELU: left in int8, they run on slow reference
# kernels between QUANTIZE and DEQUANTIZE pairs, and the variance of a token does not fit in 8 bits either. In float32
# they are quicker and exact, and what is left of them is one conversion on each side of a product.
FLOAT_OPERATIONS = (
    *("ADD", "DIV", "MEAN", "MUL", "NEG", "POW", "RSQRT", "SQRT", "SQUARE", "SQUARED_DIFFERENCE", "SUB", "SUM"),
    *("GELU", "LOGISTIC", "SOFTMAX", "TANH"),
)


def export_litert(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    precision: str = "float32",
    samples: Iterable[np.ndarray] | None = None,
    batch_size: int | None = 1,
) -> pathlib.Path:
    """Writes a LiteRT file, whole or not at all.

    Every precision takes float32 images and gives float32 scores. "float16" stores weights in 16 bits and computes in
    float32. "dynamic_int8" stores weights in 8 bits, one scale for each output channel, and takes the scales of
    activations from each image as it comes. "int8" fixes the scales of activations beforehand, from `samples`, so that
    products are int8 from their input to their output; LayerNorm, GELU, residual sums and softmax stay in float32.

    Args:
        model: A functional model of one input and one output.
        path: The file, ending in `.tflite`.
        precision: "float32", "float16", "dynamic_int8" or "int8".
        samples: For "int8", batches of preprocessed images `(n, height, width, channels)` that look like what the model
            will see; one or two hundred images are enough.
        batch_size: Images of one call; None for any number, which costs reshapes and, of a trained
            model, LayerNorm's own products and sums.

    Returns:
        The path.

    Raises:
        ValueError: If the precision is unknown, the file name does not end in `.tflite`, or "int8" lacks samples.
    """
    path = pathlib.Path(path)
    if precision not in PRECISIONS:
        raise ValueError(f"`precision` is one of {', '.join(PRECISIONS)}, but got {precision!r}.")
    if path.suffix != ".tflite":
        raise ValueError(f"A LiteRT file's name ends in .tflite, but got {path.name!r}.")
    images = [image[None] for batch in samples or () for image in np.asarray(batch, np.float32)]
    if precision == "int8" and not images:
        raise ValueError("Precision int8 needs `samples`: preprocessed images from which to take activation scales.")
    with tempfile.TemporaryDirectory() as folder:
        converter = _converter(in_float32(on_one_tensor(model)), batch_size, folder)
        content = _int8(converter, images) if precision == "int8" else _float_or_dynamic(converter, precision)
    with written_whole(path) as partial:
        partial.write_bytes(content)
    return path


def _converter(model: keras.Model, batch_size: int | None, folder: str) -> tf.lite.TFLiteConverter:
    # By way of a SavedModel: a converter made from concrete functions reads Keras's variables as NaN, silently.
    archive = keras.export.ExportArchive()
    archive.track(model)
    images = keras.InputSpec(shape=(batch_size, *model.input_shape[1:]), dtype="float32", name="images")
    archive.add_endpoint("serve", lambda images: model(images, training=False), input_signature=[images])
    archive.write_out(folder, verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    # Built-in operations alone: one that needs TensorFlow's own kernels on the device fails here, not there.
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter


def _float_or_dynamic(converter: tf.lite.TFLiteConverter, precision: str) -> bytes:
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    return converter.convert()


def _int8(converter: tf.lite.TFLiteConverter, images: list[np.ndarray]) -> bytes:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image] for image in images)
    # The converter itself cannot leave out operations; TensorFlow Lite's debugger of quantized models can.
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=list(FLOAT_OPERATIONS))
    with warnings.catch_warnings():
        # The debugger opens the model with the interpreter that ai-edge-litert replaces.
        warnings.filterwarnings(
            "ignore", message=r"\s*Warning: tf.lite.Interpreter is deprecated", category=UserWarning
        )
        debugger = tf.lite.experimental.QuantizationDebugger(converter=converter, debug_options=options)
        return debugger.get_nondebug_quantized_model()
