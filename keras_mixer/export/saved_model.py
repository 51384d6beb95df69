"""A Keras model as a SavedModel that takes images or encoded files, laid out for TF Serving."""

import os
import pathlib

import keras
import tensorflow as tf

from keras_mixer.card import CARD_FILE
from keras_mixer.data import ModelCard
from keras_mixer.evaluation import on_one_tensor
from keras_mixer.export.decoding import decode_batch
from keras_mixer.export.files import published_as_next_version, scratch_folder
from keras_mixer.export.warmup import write_warm_up_requests

TOP_K = 5
LABELS_FILE = "labels.txt"


def export_saved_model(model: keras.Model, base: str | os.PathLike, card: ModelCard) -> pathlib.Path:
    """Writes the next version of a SavedModel under `base`, whole or not at all.

    Signatures, each with any batch size:

    - `serving_default`: `images` float32 `(batch, height, width, channels)`, preprocessed, to `scores`
      `(batch, classes)`;
    - `serving_bytes`: `image_bytes` strings `(batch,)`, JPEG, PNG or GIF files, to `classes` int32, `scores` float32
      and `labels` strings, each `(batch, k)`, best first, k being 5 or the number of classes if that is smaller;
    - `features`: `images` to `features` `(batch, channels)`, what the head of the model sees.

    Scores are what the model gives: probabilities if it ends in softmax, else logits. `assets/` holds the class names
    (`labels.txt`, one in each line) and the model's card (`model.json`) without folders of this machine;
    `assets.extra/` a request for each of the first two signatures, which TF Serving runs before it lets traffic in.

    Args:
        model: A functional model of one input and one output.
        base: Folder of the model's versions, such as `saved_models/digits`; made if missing. A server may be reading
            it: the new version appears in one step, under the next number.
        card: Class names and preprocessing of the model.

    Returns:
        The folder of the new version.

    Raises:
        ValueError: If the card does not fit the model, or a class name holds a line break.
        OSError: If `base` cannot be written.
    """
    model = on_one_tensor(model)
    check_card(model, card)
    base = pathlib.Path(base)
    with scratch_folder(base) as scratch:
        labels, card_file = scratch / LABELS_FILE, scratch / CARD_FILE
        labels.write_text("".join(f"{name}\n" for name in card.class_names), encoding="utf-8")
        card.for_others().save(card_file)
        servable = _Servable(model, card, [labels, card_file])
        signatures = {name: getattr(servable, name) for name in ("serving_default", "serving_bytes", "features")}
        tf.saved_model.save(servable, str(scratch / "model"), signatures=signatures)
        write_warm_up_requests(scratch / "model", base.name, card.preprocessing)
        return published_as_next_version(scratch / "model", base)


class _Servable(tf.Module):
    """The three signatures over the variables of a model."""

    def __init__(self, model: keras.Model, card: ModelCard, assets: list[pathlib.Path]):
        super().__init__(name=model.name)
        self.model_variables = [variable.value for variable in model.variables]
        self.assets = [tf.saved_model.Asset(str(path)) for path in assets]
        images = tf.TensorSpec((None, *card.preprocessing.input_shape), tf.float32, name="images")
        image_bytes = tf.TensorSpec((None,), tf.string, name="image_bytes")
        features = keras.Model(model.inputs[0], _head_input(model))
        class_names = tf.constant(card.class_names)
        top_k = min(TOP_K, len(card.class_names))

        @tf.function(input_signature=[images])
        def serving_default(images):
            return {"scores": tf.cast(model(images, training=False), tf.float32)}

        @tf.function(input_signature=[image_bytes])
        def serving_bytes(image_bytes):
            images = decode_batch(image_bytes, card.preprocessing)
            best = tf.math.top_k(tf.cast(model(images, training=False), tf.float32), k=top_k)
            return {"classes": best.indices, "scores": best.values, "labels": tf.gather(class_names, best.indices)}

        @tf.function(input_signature=[images])
        def features_of(images):
            return {"features": tf.cast(features(images, training=False), tf.float32)}

        self.serving_default, self.serving_bytes, self.features = serving_default, serving_bytes, features_of


def _head_input(model: keras.Model):
    """What the head sees: the output of the layer `pre_logits`, or else the input of the last Dense layer."""
    if any(layer.name == "pre_logits" for layer in model.layers):
        return model.get_layer("pre_logits").output
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    return dense[-1].input if dense else model.layers[-1].input


def check_card(model: keras.Model, card: ModelCard) -> None:
    """Raises a ValueError unless the card's image shape and classes are the model's, and its class names are lines."""
    expected = (card.preprocessing.input_shape, len(card.class_names))
    found = (tuple(model.input_shape[1:]), model.output_shape[-1])
    if found != expected:
        raise ValueError(
            f"The card does not fit the model: it says images of {expected[0]} and {expected[1]} classes; "
            f"the model takes {found[0]} and gives {found[1]} scores."
        )
    broken = [name for name in card.class_names if "\n" in name or "\r" in name]
    if broken:
        raise ValueError(f"Class names are written one in each line, but {broken[0]!r} holds a line break.")
