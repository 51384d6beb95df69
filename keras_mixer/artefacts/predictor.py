"""A classifier as one function from images to scores, and helpers that prepare Keras models for it."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_mixer.sublayers import all_layers, call_of

if TYPE_CHECKING:
    import keras

Scores = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A classifier of preprocessed images, independent of the runtime.

    Attributes:
        format: Name of its format, such as "saved_model" or "litert"; "keras" for a Keras model.
        scores: Maps preprocessed float32 images `(n, height, width, channels)` to float32 scores `(n, classes)`. The
            scores are probabilities if the model ends in softmax, and logits otherwise.
        path: The file or folder that it was read from; None for a model in memory.
        size: Size in bytes of that file or folder and its companions; None for a model in memory.
        accelerated: Whether it is known to compute on an accelerator, such as a GPU.
    """

    format: str
    scores: Scores
    path: pathlib.Path | None = None
    size: int | None = None
    accelerated: bool = False


def keras_predictor(model: "keras.Model") -> Predictor:
    """Wraps a `keras.Model` that maps one tensor of images to one tensor of scores."""
    model = on_one_tensor(model)  # a new model, so that the caller's keeps its settings
    model.jit_compile = worth_compiling()
    return Predictor("keras", lambda images: np.asarray(model.predict_on_batch(images), np.float32))


def require_tensorflow_backend(purpose: str) -> None:
    """Raises ValueError unless Keras's backend is TensorFlow. `purpose` begins the message, such as "Exporting"."""
    import keras

    backend = keras.config.backend()
    if backend != "tensorflow":
        raise ValueError(
            f"{purpose} needs KERAS_BACKEND=tensorflow, but it is {backend}. A model trained on another backend loads "
            "on TensorFlow too."
        )


def on_one_tensor(model: "keras.Model") -> "keras.Model":
    """Returns a new functional model that takes a single tensor, because Keras warns if a model was built on a list.

    Raises:
        ValueError: If the model is not functional, or has several inputs or outputs.
    """
    import keras

    if not getattr(model, "inputs", None):
        raise ValueError(f"Expected a functional model, but {model.name!r} does not name its inputs: build it as one.")
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            f"Expected a model of one input and one output, but {model.name!r} has {len(model.inputs)} and "
            f"{len(model.outputs)}."
        )
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)


def head_input(model: "keras.Model"):
    """Returns the input of a model's head: the output of `pre_logits`, or else the input of the last Dense layer.

    If the model has neither, they are looked for in the models inside it. Without any, it is the last layer's input.
    """
    features = _before_head(model)
    return model.layers[-1].input if features is None else features


def _before_head(model: "keras.Model"):
    import keras

    if any(layer.name == "pre_logits" for layer in model.layers):
        return model.get_layer("pre_logits").output
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    if dense:
        return dense[-1].input
    models = [layer for layer in model.layers if isinstance(layer, keras.Model) and getattr(layer, "inputs", None)]
    for inner in reversed(models):
        if (features := _before_head(inner)) is not None:
            _, arguments, options = call_of(inner, model, (model.inputs[0],), {})
            return keras.Model(inner.inputs[0], features)(*arguments, **options)
    return None


def worth_compiling() -> bool:
    """Returns whether XLA should compile a model that is measured, if the user does not say.

    TensorFlow: only if this machine has an accelerator, because compilation for a CPU takes longer than a short
    experiment. JAX: always, because it otherwise runs one operation at a time. PyTorch: never, as in Keras.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        return keras.backend.backend() == "jax"
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU") or tf.config.list_physical_devices("TPU"))


def in_float32(model: "keras.Model") -> "keras.Model":
    """Returns a model whose layers all compute in float32: the same model if they already do, otherwise a copy.

    LiteRT and ONNX lack a bfloat16 form of some operations, and choose their own precision when they run.
    """
    if all(layer.compute_dtype == "float32" for layer in all_layers(model)):
        return model
    return _with_policy(model, "float32")


def in_bfloat16(model: "keras.Model") -> "keras.Model":
    """Returns a copy of a functional model that holds its weights and computes in bfloat16, except for its head.

    The head is the last layer with weights and what follows it, such as a softmax. It computes in float32, because
    scores of 8 bits would often be equal.
    """
    return _with_policy(model, "bfloat16", kept=_head(model))


def _head(model: "keras.Model") -> list[str]:
    """Returns the names of the last layer with weights, also if it is in a model within the model, and what follows."""
    import keras

    parts = getattr(model, "operations", None) or model.layers  # a Sequential has only layers
    last = max((index for index, part in enumerate(parts) if getattr(part, "weights", None)), default=0)
    inner = _head(parts[last]) if isinstance(parts[last], keras.Model) else [parts[last].name]
    return [*inner, *(part.name for part in parts[last + 1 :])]


def _with_policy(model: "keras.Model", name: str, kept: Sequence[str] = ()) -> "keras.Model":
    """Returns a copy of a model whose layers have the dtype policy `name`, except that those in `kept` have float32."""
    import keras

    def with_policy(config: dict, name: str, kept: Sequence[str]) -> dict:
        def changed(part: dict) -> dict:
            if part.get("class_name") == "DTypePolicy":
                return {**part, "config": {"name": name}}
            return with_policy(part, "float32", ()) if part.get("name") in kept else part

        return json.loads(json.dumps(config), object_hook=changed)

    config = with_policy(model.get_config(), name, kept)
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy(name)  # for layers whose configuration does not name a policy
        rebuilt = type(model).from_config(config)
    finally:
        keras.config.set_dtype_policy(before)
    rebuilt.set_weights([keras.ops.convert_to_numpy(keras.ops.cast(weight, "float32")) for weight in model.weights])
    return rebuilt


def in_batches(scores: Scores, batch: int | None) -> Scores:
    """Makes a function of exactly `batch` images accept any number. If `batch` is None, it already does.

    The last image is repeated to fill a call.
    """
    if batch is None:
        return scores

    def all_scores(images: np.ndarray) -> np.ndarray:
        pieces = []
        for start in range(0, len(images), batch):
            piece = images[start : start + batch]
            filled = np.concatenate([piece, np.repeat(piece[-1:], batch - len(piece), axis=0)])
            pieces.append(scores(filled)[: len(piece)])
        return np.concatenate(pieces)

    return all_scores
