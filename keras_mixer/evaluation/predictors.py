"""A trained classifier in any of its forms, behind one call: images in, scores out."""

import dataclasses
import pathlib
from collections.abc import Callable

import keras
import numpy as np

from keras_mixer.evaluation.compilation import worth_compiling

INPUT_SIGNATURE = "serving_default"


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A classifier that takes preprocessed images, whatever runs it.

    Attributes:
        format: What runs it: "keras", "saved_model", "litert", "onnx" or "openvino".
        scores: Maps float32 images `(n, height, width, channels)`, already preprocessed, to float32 scores
            `(n, classes)`: probabilities or logits, as the model was built.
        path: The file or folder that it was read from; None for a model in memory.
        size: Bytes of that file or folder; None for a model in memory.
    """

    format: str
    scores: Callable[[np.ndarray], np.ndarray]
    path: pathlib.Path | None = None
    size: int | None = None


def keras_predictor(model: keras.Model) -> Predictor:
    """Wraps a `keras.Model` that maps one tensor of images to one tensor of scores."""
    model = on_one_tensor(model)
    model = keras.Model(model.inputs[0], model.outputs[0])  # not the caller's, whose settings stay
    model.jit_compile = worth_compiling()
    return Predictor("keras", lambda images: np.asarray(model.predict_on_batch(images), np.float32))


def on_one_tensor(model: keras.Model) -> keras.Model:
    """Returns a functional model as a function of one tensor; Keras warns where one built on a list is given that.

    Raises:
        ValueError: If the model has several inputs or outputs.
    """
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            f"Expected a model of one input and one output, but {model.name!r} has {len(model.inputs)} and "
            f"{len(model.outputs)}."
        )
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)


def open_artefact(path: str | pathlib.Path, *, threads: int | None = None) -> Predictor:
    """Opens an exported model: a SavedModel folder, a `.tflite`, an `.onnx` or an OpenVINO `.xml` file.

    Args:
        path: The artefact. A folder of numbered versions, as TF Serving reads it, stands for its newest one.
        threads: CPU threads of LiteRT, ONNX Runtime and OpenVINO; None for the runtime's own choice.

    Raises:
        ValueError: If nothing is there, or it is none of these.
        ImportError: If the runtime is not installed.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise ValueError(f"There is no model at {path}: give a SavedModel folder, a .tflite, an .onnx or an .xml file.")
    if path.is_dir():
        return _saved_model(newest_version(path))
    openers = {".tflite": _litert, ".onnx": _onnx, ".xml": _openvino}
    if path.suffix not in openers:
        raise ValueError(f"{path} is not a model: expected a SavedModel folder or a file in {', '.join(openers)}.")
    return openers[path.suffix](path, threads)


def newest_version(folder: pathlib.Path) -> pathlib.Path:
    """Returns the SavedModel in `folder`: itself, or the highest of the numbered versions in it."""
    if (folder / "saved_model.pb").is_file():
        return folder
    versions = [entry for entry in folder.iterdir() if entry.name.isdecimal() and (entry / "saved_model.pb").is_file()]
    if not versions:
        raise ValueError(f"{folder} holds no SavedModel: neither saved_model.pb nor a numbered version with one.")
    return max(versions, key=lambda entry: int(entry.name))


def _saved_model(path: pathlib.Path) -> Predictor:
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(path))
    except Exception as error:  # TensorFlow leaves open what a damaged SavedModel raises
        raise ValueError(f"{path} is not a SavedModel that can be loaded: {error}") from error
    if INPUT_SIGNATURE not in loaded.signatures:
        raise ValueError(f"The SavedModel {path} lacks the signature {INPUT_SIGNATURE!r}: {list(loaded.signatures)}.")
    (name,) = loaded.signatures[INPUT_SIGNATURE].structured_input_signature[1]

    def scores(images: np.ndarray) -> np.ndarray:
        # Looked up in `loaded` at each call, for it owns the variables that the signature reads.
        (output,) = loaded.signatures[INPUT_SIGNATURE](**{name: tf.constant(images, tf.float32)}).values()
        return output.numpy()

    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return Predictor("saved_model", scores, path, size)


def _litert(path: pathlib.Path, threads: int | None) -> Predictor:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ImportError("Running a .tflite file needs LiteRT: pip install ai-edge-litert") from error
    try:
        interpreter = Interpreter(str(path), num_threads=threads)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"LiteRT cannot load {path}: {error}") from error
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    dynamic = source["shape_signature"][0] == -1

    def chunk_scores(chunk: np.ndarray) -> np.ndarray:
        if tuple(interpreter.get_input_details()[0]["shape"]) != chunk.shape:
            interpreter.resize_tensor_input(source["index"], chunk.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(source["index"], _quantized(chunk, source))
        interpreter.invoke()
        return _dequantized(interpreter.get_tensor(target["index"]), target)

    interpreter.allocate_tensors()
    batch = None if dynamic else int(source["shape"][0])
    return Predictor("litert", lambda images: _in_batches(chunk_scores, images, batch), path, path.stat().st_size)


def _quantized(values: np.ndarray, details: dict) -> np.ndarray:
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


def _in_batches(scores: Callable[[np.ndarray], np.ndarray], images: np.ndarray, batch: int | None) -> np.ndarray:
    """Feeds a model of static batch in pieces of that size, the last one filled up by repeating its last image."""
    if batch is None:
        return scores(images)
    pieces = []
    for start in range(0, len(images), batch):
        piece = images[start : start + batch]
        filled = np.concatenate([piece, np.repeat(piece[-1:], batch - len(piece), axis=0)])
        pieces.append(scores(filled)[: len(piece)])
    return np.concatenate(pieces)


def _onnx(path: pathlib.Path, threads: int | None) -> Predictor:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError('Running an .onnx file needs ONNX Runtime: pip install "keras_mixer[onnx]"') from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no public base class
        raise ValueError(f"ONNX Runtime cannot load {path}: {error}") from error
    (source,) = session.get_inputs()
    batch = source.shape[0] if isinstance(source.shape[0], int) else None

    def chunk_scores(chunk: np.ndarray) -> np.ndarray:
        return session.run(None, {source.name: chunk.astype(np.float32, copy=False)})[0]

    return Predictor("onnx", lambda images: _in_batches(chunk_scores, images, batch), path, path.stat().st_size)


def _openvino(path: pathlib.Path, threads: int | None) -> Predictor:
    try:
        import openvino
    except ImportError as error:
        raise ImportError('Running an OpenVINO file needs OpenVINO: pip install "keras_mixer[openvino]"') from error
    # On a CPU with bfloat16 OpenVINO computes in it unless told otherwise; the file holds float32.
    settings: dict = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    try:
        compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    except RuntimeError as error:
        raise ValueError(f"OpenVINO cannot load {path}: {error}") from error
    size = path.stat().st_size + path.with_suffix(".bin").stat().st_size
    return Predictor("openvino", lambda images: compiled([images])[0], path, size)
