"""One version of a model: a SavedModel folder loaded for its signatures."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_mixer.serving.config import Limits
from keras_mixer.serving.errors import RequestError, invalid
from keras_mixer.serving.images import INPUT_NAME, check_images
from keras_mixer.serving.tensors import TensorSpec

DEFAULT_SIGNATURE = "serving_default"


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of one signature, by name."""

    name: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]

    @property
    def batchable(self) -> bool:
        """Whether rows of several requests can run together: every tensor's first axis is open."""
        specs = [*self.inputs.values(), *self.outputs.values()]
        return bool(self.inputs) and all(spec.shape and spec.shape[0] is None for spec in specs)

    def check_names(self, names: Collection[str]) -> None:
        """Raises a RequestError unless `names` are those of the inputs."""
        if set(names) != set(self.inputs):
            raise invalid(f"Signature {self.name!r} takes the inputs {sorted(self.inputs)}, but got {sorted(names)}.")

    def check(self, inputs: Mapping[str, np.ndarray], limits: Limits) -> None:
        """Raises a RequestError unless `inputs` can run: names, types, shapes, finite numbers, sound image headers."""
        self.check_names(inputs)
        for name, spec in self.inputs.items():
            spec.check(inputs[name])
            if name == INPUT_NAME and spec.dtype.kind == "O":
                check_images(inputs[name].ravel(), limits)
        if self.batchable:
            sizes = {name: len(array) for name, array in inputs.items()}
            if len(set(sizes.values())) != 1 or 0 in sizes.values():
                raise invalid(f"All inputs must have the same number of rows, 1 or more, but got {sizes}.")


class Servable:
    """A loaded version.

    Args:
        name: The model's name.
        version: The version's number.
        path: The SavedModel's folder.

    Raises:
        ValueError: If the folder holds no SavedModel that TensorFlow can load, or one without signatures.
    """

    def __init__(self, name: str, version: int, path: Path):
        import tensorflow as tf

        self.name, self.version, self.path = name, version, path
        try:
            # The object owns the variables; the signatures refer to them weakly.
            self._loaded = tf.saved_model.load(str(path))
            self.signature_defs = _signature_defs(path)
        except Exception as error:  # TensorFlow leaves open what a damaged SavedModel raises
            raise ValueError(f"{path} is not a SavedModel that can be loaded: {_message(error)}") from error
        self._functions = dict(self._loaded.signatures)
        if not self._functions:
            raise ValueError(f"{path} has no signatures: export the model with signatures.")
        self.signatures = {name: _signature(name, function) for name, function in self._functions.items()}

    def signature(self, name: str, *, missing: str = "FAILED_PRECONDITION") -> Signature:
        """The signature called `name`, or the default one for an empty name."""
        name = name or DEFAULT_SIGNATURE
        if name not in self.signatures:
            raise RequestError(missing, f'Serving signature name: "{name}" not found in signature def')
        return self.signatures[name]

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs a signature on arrays that its `check` has passed.

        Raises:
            RequestError: If the model fails on them, as on an image file that is damaged behind its header.
        """
        import tensorflow as tf

        tensors = {
            name: tf.constant(array, dtype=tf.string if array.dtype.kind == "O" else None)
            for name, array in inputs.items()
        }
        try:
            outputs = self._functions[signature](**tensors)
            return {name: output.numpy() for name, output in outputs.items()}
        except tf.errors.OpError as error:
            # These say that the input is at fault, all others that the server is.
            at_fault = (
                tf.errors.InvalidArgumentError,
                tf.errors.OutOfRangeError,
                tf.errors.FailedPreconditionError,
                tf.errors.DataLossError,
            )
            if isinstance(error, at_fault):
                raise invalid(_message(error)) from error
            code = "RESOURCE_EXHAUSTED" if isinstance(error, tf.errors.ResourceExhaustedError) else "INTERNAL"
            raise RequestError(code, _message(error)) from error


def _signature_defs(path: Path):
    """The SignatureDef protos by name, for metadata."""
    from tensorflow.core.protobuf import saved_model_pb2

    proto = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    return {name: definition for graph in proto.meta_graphs[:1] for name, definition in graph.signature_def.items()}


def _signature(name: str, function) -> Signature:
    _, keyword_specs = function.structured_input_signature
    outputs = function.structured_outputs
    return Signature(
        name,
        {key: _spec(key, spec) for key, spec in keyword_specs.items()},
        {key: _spec(key, spec) for key, spec in outputs.items()},
    )


def _spec(name: str, spec) -> TensorSpec:
    shape = None if spec.shape.rank is None else tuple(spec.shape.as_list())
    return TensorSpec(name, np.dtype(spec.dtype.as_numpy_dtype), shape)


def _message(error: Exception) -> str:
    """TensorFlow's own words, which stand between a listing of the call stack and one of the graph's nodes."""
    text = getattr(error, "message", None) or str(error)
    lines = [line.strip() for line in text.split("[[{{node")[0].split(" [Op:")[0].splitlines() if line.strip()]
    return re.sub(r"^\(\d+\) [A-Z_]+:\s*", "", lines[-1]) if lines else type(error).__name__
