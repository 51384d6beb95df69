"""SavedModels for TF Serving: three signatures, class names, the card, and warm-up requests."""

import os
import pathlib
from typing import TYPE_CHECKING

import numpy as np

from keras_mixer import wire
from keras_mixer.artefacts.predictor import Scores, head_input, on_one_tensor, require_tensorflow_backend
from keras_mixer.artefacts.record import Format
from keras_mixer.card import CARD_FILE, ModelCard
from keras_mixer.extras import require
from keras_mixer.files import scratch_folder
from keras_mixer.images import MAX_PIXELS
from keras_mixer.preprocessing import Preprocessing

if TYPE_CHECKING:
    import keras

TOP_K = 5
LABELS_FILE = "labels.txt"


def export_saved_model(
    model: "keras.Model",
    base: str | os.PathLike,
    card: ModelCard,
    *,
    max_pixels: int = MAX_PIXELS,
    webp: bool = False,
) -> pathlib.Path:
    """Writes the next version of a SavedModel under `base`. A failure leaves no partial version.

    Its signatures take any batch size:

    - `serving_default`: `images` float32 `(batch, height, width, channels)`, preprocessed, to `scores`
      `(batch, classes)`;
    - `serving_bytes`: `image_bytes` strings `(batch,)`, which are JPEG, PNG, BMP or GIF files, to `classes` int32,
      `scores` float32 and `labels` strings, each `(batch, k)`, best first. k is 5, or the number of classes if that is
      smaller. Images are turned upright;
    - `features`: `images` to `features` `(batch, channels)`, the inputs of the model's head.

    Scores are probabilities if the model ends in softmax, and logits otherwise. `assets/` holds the class names
    (`labels.txt`, one per line) and the model's card (`model.json`) without paths of this machine. `assets.extra/`
    holds a request for each of the first two signatures. TF Serving runs these requests before it accepts traffic.

    Args:
        model: A functional model of one input and one output.
        base: Folder of the model's versions, such as `saved_models/digits`, created if missing. The new version appears
            atomically under the next number, so a server may be reading the folder.
        card: Class names and preprocessing of the model.
        max_pixels: Largest number of pixels (height x width) of an image that `serving_bytes` decodes.
        webp: Whether `serving_bytes` reads WebP images too. TensorFlow and TF Serving 2.19 and older cannot load such a
            model.

    Returns:
        The folder of the new version.

    Raises:
        ValueError: If the card does not fit the model, a class name holds a line break, or Keras's backend is not
            TensorFlow.
        ImportError: If TensorFlow is not installed.
        OSError: If `base` cannot be written.

    Example:
        >>> model, card = keras_mixer.data.load_model("runs/digits")
        >>> keras_mixer.export.export_saved_model(model, "saved_models/digits", card)
    """
    require("tensorflow", extra="tensorflow", purpose="Writing a SavedModel")
    require_tensorflow_backend("Writing a SavedModel")
    import tensorflow as tf

    model = on_one_tensor(model)
    check_card_fits(model, card)
    base = pathlib.Path(base)
    with scratch_folder(base) as scratch:
        labels, card_file = scratch / LABELS_FILE, scratch / CARD_FILE
        labels.write_text("".join(f"{name}\n" for name in card.class_names), encoding="utf-8")
        card.for_others().save(card_file)
        servable = _servable(model, card, [labels, card_file], max_pixels, webp)
        tf.saved_model.save(servable, str(scratch / "model"), signatures=servable.endpoints)
        write_warm_up_requests(scratch / "model", base.name, card.preprocessing)
        return published_as_next_version(scratch / "model", base)


def check_card_fits(model: "keras.Model", card: ModelCard) -> None:
    """Raises a ValueError unless the card's images and classes fit the model, and every class name is one line."""
    expected = (card.preprocessing.input_shape, len(card.class_names))
    found = (tuple(model.input_shape[1:]), model.output_shape[-1])
    if found != expected:
        raise ValueError(
            f"The card does not fit the model: the card says images of {expected[0]} and {expected[1]} classes, but "
            f"the model takes {found[0]} and gives {found[1]} scores."
        )
    broken = [name for name in card.class_names if "\n" in name or "\r" in name]
    if broken:
        raise ValueError(f"Class names are written one per line, but {broken[0]!r} contains a line break.")


def published_as_next_version(complete: pathlib.Path, base: pathlib.Path) -> pathlib.Path:
    """Moves a complete folder to the next version number in `base` atomically."""
    while True:  # another process may take the same number first
        target = base / str(max(wire.numbered(base), default=0) + 1)
        try:
            complete.rename(target)
        except OSError:
            if not target.exists():
                raise
        else:
            return target


def _servable(model: "keras.Model", card: ModelCard, assets: list[pathlib.Path], max_pixels: int, webp: bool):
    """Returns a `tf.Module` with the model's variables, the assets, and the signatures as `endpoints`."""
    import keras
    import tensorflow as tf

    from keras_mixer.artefacts.decoding import decode_batch

    images = tf.TensorSpec((None, *card.preprocessing.input_shape), tf.float32, name=wire.IMAGES)
    image_bytes = tf.TensorSpec((None,), tf.string, name=wire.IMAGE_BYTES)
    features = keras.Model(model.inputs[0], head_input(model))
    class_names = tf.constant(card.class_names)
    top_k = min(TOP_K, len(card.class_names))

    @tf.function(input_signature=[images])
    def serving_default(images):
        return {wire.SCORES: tf.cast(model(images, training=False), tf.float32)}

    @tf.function(input_signature=[image_bytes])
    def serving_bytes(image_bytes):
        images = decode_batch(image_bytes, card.preprocessing, max_pixels=max_pixels, webp=webp)
        best = tf.math.top_k(tf.cast(model(images, training=False), tf.float32), k=top_k)
        labels = tf.gather(class_names, best.indices)
        return {"classes": best.indices, wire.SCORES: best.values, wire.LABELS: labels}

    @tf.function(input_signature=[images])
    def features_of(images):
        return {wire.FEATURES: tf.cast(features(images, training=False), tf.float32)}

    servable = tf.Module(name=model.name)
    servable.model_variables = [variable.value for variable in model.variables]
    servable.assets = [tf.saved_model.Asset(str(path)) for path in assets]
    servable.endpoints = {
        wire.DEFAULT_SIGNATURE: serving_default,
        wire.BYTES_SIGNATURE: serving_bytes,
        wire.FEATURES_SIGNATURE: features_of,
    }
    return servable


def write_warm_up_requests(version: pathlib.Path, model_name: str, preprocessing: Preprocessing) -> pathlib.Path:
    """Writes one request with a blank image for each of `serving_default` and `serving_bytes`, as TFRecords."""
    import tensorflow as tf

    shape = preprocessing.input_shape
    # One value and a shape stand for a whole tensor, so the file is small at any image size.
    blank = tf.make_tensor_proto(0.0, tf.float32, (1, *shape))
    encoded = tf.io.encode_png(tf.zeros(shape, tf.uint8)).numpy()
    requests = {
        wire.DEFAULT_SIGNATURE: {wire.IMAGES: blank},
        wire.BYTES_SIGNATURE: {wire.IMAGE_BYTES: tf.make_tensor_proto([encoded], tf.string)},
    }
    path = version / wire.WARM_UP_FILE
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests.items():
            writer.write(_prediction_log(model_name, signature, inputs))
    return path


def _prediction_log(model_name: str, signature: str, inputs: dict) -> bytes:
    """Writes TF Serving's message `PredictionLog` by the published numbers of its fields.

    The package tensorflow-serving-api is not used, because it installs the full TensorFlow beside any other build. The
    tests read the file back with that package.
    """

    def field(number: int, content: bytes) -> bytes:
        size, head = len(content), bytes([number << 3 | 2])
        while size > 0x7F:
            head, size = head + bytes([size & 0x7F | 0x80]), size >> 7
        return head + bytes([size]) + content

    request = field(1, field(1, model_name.encode()) + field(3, signature.encode()))  # model_spec
    for name, tensor in inputs.items():
        request += field(2, field(1, name.encode()) + field(2, tensor.SerializeToString()))  # an entry of a map
    return field(6, field(1, request))  # predict_log, request


def _open(path: pathlib.Path, _threads: int | None) -> Scores:
    import tensorflow as tf

    loaded, signature = tf.saved_model.load(str(path)), wire.DEFAULT_SIGNATURE
    if signature not in loaded.signatures:
        raise ValueError(f"its signatures are {list(loaded.signatures)}, without {signature!r}")
    (name,) = loaded.signatures[signature].structured_input_signature[1]

    def scores(images: np.ndarray) -> np.ndarray:
        # This use of `loaded` keeps it alive. It owns the variables that the signature reads.
        (output,) = loaded.signatures[signature](**{name: tf.constant(images, tf.float32)}).values()
        return output.numpy()

    return scores


SAVED_MODEL = Format(
    "saved_model",
    "",
    write=lambda model, base, card, samples, **decoding: export_saved_model(model, base, card, **decoding),
    open=_open,
    settings=("max_pixels", "webp"),
    needs=("tensorflow",),
    install='pip install "keras_mixer[tensorflow]"',
)
