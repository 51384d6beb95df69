"""ONNX files, and a check that a file written by Keras's exporter computes the same as the model."""

import contextlib
import gc
import json
import os
import pathlib
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from keras_mixer import wire
from keras_mixer.artefacts.predictor import Scores, in_batches, in_float32, on_one_tensor
from keras_mixer.artefacts.record import Format, Open, check_suffix
from keras_mixer.card import CARD_FILE, ModelCard
from keras_mixer.files import written_whole

if TYPE_CHECKING:
    import keras

# Two runtimes sum products in different orders. After twelve blocks in float32 they differ by far less than this.
TOLERANCE = 1e-3
_collecting = threading.Lock()  # the settings of the garbage collector are those of the whole process


def export_onnx(model: "keras.Model", path: str | os.PathLike, *, card: ModelCard | None = None) -> pathlib.Path:
    """Writes an ONNX file with the input `images`, the output `scores` and any batch size.

    Keras's exporter reports success even if ONNX lacks an operation of the model, such as the error function of the
    exact GELU. This function therefore opens the file in ONNX Runtime and compares it with the model on random images.

    Args:
        model: A functional model of one input and one output.
        path: The file, ending in `.onnx`.
        card: The model's card. The file then contains its class names and preprocessing as metadata.

    Returns:
        The path.

    Raises:
        ValueError: If ONNX Runtime cannot load the file, or its scores differ from the model's. The file is then
            deleted.
        ImportError: If onnx, tf2onnx or onnxruntime is not installed.
    """
    path = pathlib.Path(path)
    check_suffix(path, ".onnx")
    ONNX.check_installed(to_write=True)
    with written_whole(path) as partial:
        export_checked(model, partial, "onnx", _open)
        _describe(partial, card)
    return path


def _describe(path: pathlib.Path, card: ModelCard | None) -> None:
    """Names the input, the output and their axes, and adds the card. Weights in a separate file stay there."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    for value, name, axes in (
        (model.graph.input[0], wire.IMAGES, ("batch", "height", "width", "channels")),
        (model.graph.output[0], wire.SCORES, ("batch", "classes")),
    ):
        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = [name if old == value.name else old for old in names]
        value.name = name
        for axis, meaning in zip(value.type.tensor_type.shape.dim, axes, strict=True):
            if not axis.HasField("dim_value"):
                axis.dim_param = meaning
    if card is not None:
        model.doc_string = f"{card.name}: {len(card.class_names)} classes"
        onnx.helper.set_model_props(
            model, {"labels": json.dumps(card.class_names), CARD_FILE: card.for_others().to_json()}
        )
    onnx.save(model, path)


def _embedded_card(path: pathlib.Path) -> str | None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.get_modelmeta().custom_metadata_map.get(CARD_FILE)


def export_checked(
    model: "keras.Model",
    path: pathlib.Path,
    kind: str,
    open_: Open,
    write: Callable[["keras.Model", pathlib.Path], object] | None = None,
) -> None:
    """Writes a file of Keras's format `kind`. Raises ValueError unless the file opens and gives the model's scores.

    `write` writes it, by default `keras.Model.export`.
    """
    images = np.random.default_rng(0).uniform(-1, 1, (3, *model.input_shape[1:])).astype(np.float32)
    model = in_float32(on_one_tensor(model))
    expected = np.asarray(model(images, training=False))  # Keras exports only a model that has been called
    with warnings.catch_warnings(), _prompt_garbage_collection():
        # Keras's patch of tf2onnx for NumPy 2 uses names that NumPy has removed.
        warnings.filterwarnings("ignore", message="In the future `np.object`", category=FutureWarning)
        if write is None:
            model.export(str(path), format=kind, verbose=False)
        else:
            write(model, path)
    try:
        scores = open_(path, None)
    except Exception as error:  # the errors of runtimes share no public base class
        cause = str(error)
        if "Erfc" in cause:
            cause = "ONNX cannot hold the exact GELU as Keras writes it: build the model with gelu(approximate=True)."
        raise ValueError(f"The {kind} file is invalid and not kept. {cause}") from error
    for size in (3, 1):  # the second size fails if the file holds a fixed batch size
        difference = float(np.abs(scores(images[:size]) - expected[:size]).max())
        if not difference <= TOLERANCE:
            raise ValueError(f"The {kind} file loads, but its scores differ by {difference:.3g}: it is not kept.")


@contextlib.contextmanager
def _prompt_garbage_collection() -> Iterator[None]:
    """Frees the copies of the graph that tf2onnx makes. It leaves some 25 of them in reference cycles.

    A copy holds all weights but is few objects, so Python would collect it late. A Mixer-B/16 takes 6 GB instead of 17.
    """
    with _collecting:
        thresholds, frozen = gc.get_threshold(), gc.get_freeze_count()
        gc.collect()
        if not frozen:
            gc.freeze()  # what exists stays out of the collections, which are then short
            gc.collect()  # forgets the number of objects that existed, which decides when a full collection is due
        gc.set_threshold(700, 1, 1)
        try:
            yield
        finally:
            gc.set_threshold(*thresholds)
            if not frozen:
                gc.unfreeze()


def _open(path: pathlib.Path, threads: int | None) -> Scores:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    batch = source.shape[0] if isinstance(source.shape[0], int) else None
    return in_batches(lambda images: session.run(None, {source.name: images.astype(np.float32, copy=False)})[0], batch)


ONNX = Format(
    "onnx",
    "model.onnx",
    write=lambda model, path, card, samples: export_onnx(model, path, card=card),
    open=_open,
    companions=("{name}.data",),  # holds the weights of large models
    needs=("onnxruntime",),
    needs_to_write=("onnx", "tf2onnx"),
    install='pip install "keras_mixer[onnx]"',
    embedded_card=_embedded_card,
)
