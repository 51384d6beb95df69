"""Lists the engines: what each one runs, and at which precision. To add an engine, add a row to `ENGINES`."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping

from keras_mixer.artefacts.opening import FORMATS
from keras_mixer.artefacts.openvino import open_in_bfloat16
from keras_mixer.artefacts.predictor import Predictor
from keras_mixer.cores import usable_cores
from keras_mixer.engines import backends, worker
from keras_mixer.extras import installed, require

PRECISIONS = ("float32", "bfloat16", "int8")
Run = Callable[[pathlib.Path, str], Predictor]


@dataclasses.dataclass(frozen=True)
class Engine:
    """What computes the scores of a model.

    Attributes:
        name: The engine's name, as in `keras-mixer predict --engine NAME`.
        needs: Modules that must be installed.
        install: The command that installs them.
        run: Function that opens a file at a precision.
        reads: By precision, the formats that it opens without converting them.
        converts: By precision, the formats that a Keras model is converted to, the preferred one first.
    """

    name: str
    needs: tuple[str, ...]
    install: str
    run: Run
    reads: Mapping[str, tuple[str, ...]]
    converts: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def formats(self, form: str, precision: str) -> tuple[str, ...]:
        """Returns the formats in which it can run a model of the format `form`, the preferred one first."""
        if form in self.reads.get(precision, ()):
            return (form,)
        return self.converts.get(precision, ()) if form == "keras" else ()

    def check_installed(self) -> None:
        """Raises ImportError, with the install command, if the engine is not installed."""
        require(*self.needs, command=self.install, purpose=f"The engine {self.name}")

    @property
    def is_installed(self) -> bool:
        """Whether the engine is installed."""
        return installed(*self.needs)


def _on_backend(name: str, path: pathlib.Path, precision: str) -> Predictor:
    if path.suffix != ".keras":
        return _saved_model(path)
    if backends.loaded_backend() == name:
        return backends.predictor_of(path, precision)
    return worker.predictor_of(name, path, precision)


def _saved_model(path: pathlib.Path) -> Predictor:
    import tensorflow as tf

    return dataclasses.replace(FORMATS["saved_model"].opened(path), accelerated=backends.on_accelerator(tf.ones(1)))


def _openvino(path: pathlib.Path, precision: str) -> Predictor:
    # It reads an ONNX file as well as its own.
    form = FORMATS["openvino"]
    if precision == "bfloat16":
        form = dataclasses.replace(form, open=open_in_bfloat16)
    return form.opened(path, usable_cores())


def _backend(name: str, install: str, *more: str) -> Engine:
    reads = {"float32": ("keras", *more), "bfloat16": ("keras",)}
    return Engine(name, ("keras", name), install, functools.partial(_on_backend, name), reads)


def _runtime(form: str) -> Run:
    return lambda path, _precision: FORMATS[form].opened(path, usable_cores())


_OPENVINO_READS = ("openvino", "onnx")
ENGINES: dict[str, Engine] = {
    engine.name: engine
    for engine in (
        _backend("tensorflow", 'pip install "keras_mixer[tensorflow]"', "saved_model"),
        _backend("jax", 'pip install "keras_mixer[jax]"'),
        _backend("torch", "pip install torch"),
        Engine(
            "openvino",
            ("openvino",),
            'pip install "keras_mixer[openvino]"',
            _openvino,
            reads={"float32": _OPENVINO_READS, "bfloat16": _OPENVINO_READS},
            converts={"float32": ("openvino",), "bfloat16": ("openvino",), "int8": ("openvino_int8",)},
        ),
        Engine(
            "litert",
            ("ai_edge_litert",),
            "pip install ai-edge-litert",
            _runtime("litert"),
            reads={"float32": ("litert",)},
            converts={"float32": ("litert",), "int8": ("litert_int8", "litert_dynamic_int8")},
        ),
        Engine(
            "onnxruntime",
            ("onnxruntime",),
            'pip install "keras_mixer[onnx]"',
            _runtime("onnx"),
            reads={"float32": ("onnx",)},
            converts={"float32": ("onnx",)},
        ),
    )
}
