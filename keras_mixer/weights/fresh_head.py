"""Loading a body under a new head."""

import logging
import os

from keras_mixer.weights.inspection import sizes_of
from keras_mixer.weights.loading import load, resolve

_log = logging.getLogger(__name__)


def load_with_fresh_head(model, source: str | os.PathLike, resize: bool | tuple[int, int] = False) -> None:
    """Loads all that the model and the file share: a head for which the file has none of as many classes stays fresh.

    A log line says when a head stays fresh.

    Args:
        model: A built Keras model, with or without a head.
        source: As of `keras_mixer.weights.load`.
        resize: As of `keras_mixer.weights.load`.

    Raises:
        ValueError: If the file is damaged or its body does not fit. The model is then as it was.
        OSError: If the file cannot be read or fetched.
    """
    path = resolve(source, model)
    classes = next((layer.units for layer in model.layers if layer.name == "head"), None)
    stored = sizes_of(path).classes
    if classes is not None and classes != stored:
        theirs = f"that in {path} has {stored}" if stored else f"{path} has none"
        _log.warning("%s: the head for %d classes starts fresh, for %s.", model.name, classes, theirs)
    load(model, path, skip=() if classes == stored else ("head",), resize=resize)
