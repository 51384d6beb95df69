"""Core ML packages for Apple's devices."""

import logging
import os
import pathlib
import shutil
import warnings
from typing import TYPE_CHECKING

import numpy as np

from keras_mixer import wire
from keras_mixer.artefacts.predictor import in_float32, on_one_tensor, require_tensorflow_backend
from keras_mixer.artefacts.record import Format, check_suffix
from keras_mixer.card import CARD_FILE, ModelCard
from keras_mixer.files import scratch_folder

if TYPE_CHECKING:
    import keras


def export_coreml(model: "keras.Model", path: str | os.PathLike, card: ModelCard) -> pathlib.Path:
    """Writes a Core ML classifier (an ML program, from iOS 15 and macOS 12) that takes an image and names its class.

    The classifier takes an image of the model's input size, as Vision's `VNCoreMLRequest` provides. The app chooses how
    to crop a photograph, such as `.centerCrop`. The package scales the pixels and computes in float16. coremltools can
    run it only on Apple's systems, so this function does not compare its scores with the model's.

    Args:
        model: A functional model of one input and one output, on the TensorFlow backend of Keras.
        path: The package, ending in `.mlpackage`.
        card: The model's card: class names and preprocessing.

    Returns:
        The path.

    Raises:
        ValueError: If the model does not take grey or RGB images, or Keras's backend is not TensorFlow.
        ImportError: If coremltools or TensorFlow is not installed.
    """
    path = pathlib.Path(path)
    check_suffix(path, ".mlpackage")
    COREML.check_installed(to_write=True)
    require_tensorflow_backend("Writing a Core ML package")
    preprocessing = card.preprocessing
    if preprocessing.channels not in (1, 3):
        raise ValueError(f"Core ML takes grey or RGB images, but the model takes {preprocessing.channels} channels.")
    import tensorflow as tf

    coremltools = _coremltools()
    model = in_float32(on_one_tensor(model))
    mean, std = (np.asarray(value, np.float32) for value in (preprocessing.mean, preprocessing.std))
    shape = (1, *preprocessing.input_shape)

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name=wire.IMAGES)])
    def scores(images):
        return tf.identity(model((images / 255.0 - mean) / std, training=False), name=wire.SCORES)

    colours = coremltools.colorlayout.RGB if preprocessing.channels == 3 else coremltools.colorlayout.GRAYSCALE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # coremltools warns of any TensorFlow newer than itself
        converted = coremltools.convert(
            [scores.get_concrete_function()],
            source="tensorflow",
            convert_to="mlprogram",
            inputs=[coremltools.ImageType(wire.IMAGES, shape, color_layout=colours)],
            classifier_config=coremltools.ClassifierConfig(list(card.class_names)),
            minimum_deployment_target=coremltools.target.iOS15,
            skip_model_load=True,
        )
        converted.short_description = f"{card.name}: {len(card.class_names)} classes"
        converted.user_defined_metadata[CARD_FILE] = card.for_others().to_json()
        with scratch_folder(path.parent) as scratch:
            converted.save(str(scratch / path.name))
            shutil.rmtree(path, ignore_errors=True)  # a folder cannot be replaced atomically
            (scratch / path.name).replace(path)
    return path


def _coremltools():
    logging.getLogger("coremltools").setLevel(logging.ERROR)  # it logs what it lacks on other systems than Apple's
    import coremltools

    return coremltools


def _embedded_card(path: pathlib.Path) -> str | None:
    return _coremltools().models.MLModel(str(path), skip_model_load=True).user_defined_metadata.get(CARD_FILE)


COREML = Format(
    "coreml",
    "model.mlpackage",
    write=lambda model, path, card, samples: export_coreml(model, path, card),
    open=None,
    needs_to_write=("coremltools", "tensorflow"),
    install='pip install "keras_mixer[coreml]"',
    embedded_card=_embedded_card,
)
