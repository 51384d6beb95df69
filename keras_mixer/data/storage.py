"""Random access to the examples of a source, so that a shuffled stream can start anywhere at no cost."""

import dataclasses
import functools
import weakref

import numpy as np
import tensorflow as tf

from keras_mixer.data.arrays import MEMORY_LIMIT
from keras_mixer.data.corrupt import CorruptImages
from keras_mixer.data.pixels import read
from keras_mixer.data.sources.base import Source
from keras_mixer.data.sources.folder import FolderSource
from keras_mixer.preprocessing import Preprocessing

_BATCH = 256  # images copied to memory at a time
_UNREADABLE = (tf.errors.InvalidArgumentError, ValueError)  # raised by TensorFlow, and by Pillow in eager execution
_PROBED = 16  # images of a folder whose sizes are compared before all are decoded


@dataclasses.dataclass(frozen=True)
class RandomAccess:
    """Examples by number."""

    columns: dict[str, tf.Tensor]  # "image", "label" and "index", one entry per example
    encoded: bool  # True: images are paths of files that may be unreadable; False: they are decoded uint8

    @property
    def size(self) -> int:
        return len(self.columns["label"])

    def fetch(self, number: tf.Tensor) -> dict[str, tf.Tensor]:
        return {name: column[number] for name, column in self.columns.items()}

    def read(self, image: tf.Tensor) -> tf.Tensor:
        return tf.io.read_file(image) if self.encoded else image


# Sources in memory and the indices of their unreadable images. The keys are source, channels and largest size. They are
# kept because a training run opens its stream up to three times.
_kept: weakref.WeakKeyDictionary[Source, dict[tuple, tuple[RandomAccess, list[int]]]] = weakref.WeakKeyDictionary()


def random_access(source: Source, preprocessing: Preprocessing, corrupt: CorruptImages) -> RandomAccess | None:
    """Returns the fastest random access that a source allows; None if it can only be read in order.

    A small source whose images have one size is decoded into memory once, and stays there as long as the source exists.
    Unreadable images are counted and left out. Any other folder of images is read file by file.
    """
    key = preprocessing.channels, corrupt.max_pixels
    known = _kept.get(source, {}).get(key)
    if known is not None:
        access, unreadable = known
        for index in unreadable:  # this counter may be another one
            corrupt.note(index, source)
        return access
    shape = source.image_shape
    if shape is None and isinstance(source, FolderSource):
        shape = _common_shape(source, preprocessing, corrupt)
    if shape is not None and source.num_examples * shape[0] * shape[1] * preprocessing.channels <= MEMORY_LIMIT:
        decoded = _decode_all(source, preprocessing, (*shape[:2], preprocessing.channels), corrupt)
        if decoded is not None:
            _kept.setdefault(source, {})[key] = decoded
            return decoded[0]
    if isinstance(source, FolderSource):
        numbers = tf.range(source.num_examples, dtype=tf.int64)
        columns = {"image": tf.constant(source.file_names), "label": tf.constant(source.labels), "index": numbers}
        return RandomAccess(columns, encoded=True)
    return None


def _decode_all(
    source: Source, preprocessing: Preprocessing, shape, corrupt: CorruptImages
) -> tuple[RandomAccess, list[int]] | None:
    """Decodes a whole source; returns None if an image has another shape."""
    decode_image = functools.partial(read, channels=preprocessing.channels, max_pixels=corrupt.max_pixels)

    @tf.autograph.experimental.do_not_convert
    def decoded(example):
        return {**example, "image": tf.ensure_shape(decode_image(example["image"]), shape)}

    images = np.empty((source.num_examples, *shape), np.uint8)
    labels: list[int] = []
    indices: list[int] = []
    unreadable: list[int] = []
    batches = source.examples().map(decoded, num_parallel_calls=tf.data.AUTOTUNE).batch(_BATCH)
    try:
        for batch in batches.prefetch(tf.data.AUTOTUNE).as_numpy_iterator():
            images[len(labels) : len(labels) + len(batch["label"])] = batch["image"]
            labels.extend(batch["label"])
            indices.extend(batch["index"])
    except _UNREADABLE:  # an image is unreadable or has another shape; find out which of the two
        labels.clear()
        indices.clear()
        for example in source.examples():
            try:
                image = decode_image(example["image"])
            except _UNREADABLE:
                corrupt.note(example["index"], source)
                unreadable.append(int(example["index"]))
                continue
            if image.shape != shape:
                return None
            images[len(labels)] = image
            labels.append(example["label"].numpy())
            indices.append(example["index"].numpy())
    if not labels:
        raise ValueError(f"No image of {source.spec.name}, split {source.spec.split}, can be read.")
    columns = {"image": tf.constant(images[: len(labels)]), "label": tf.constant(labels), "index": tf.constant(indices)}
    return RandomAccess(columns, encoded=False), unreadable


def _common_shape(source: FolderSource, preprocessing: Preprocessing, corrupt: CorruptImages):
    """Returns the shape of the first readable images of a folder; None if their shapes differ."""
    shapes = set()
    for example in source.examples().take(_PROBED):
        try:
            image = read(example["image"], preprocessing.channels, max_pixels=corrupt.max_pixels)
        except _UNREADABLE:
            continue  # counted later, when the image is decoded
        shapes.add(tuple(image.shape))
    return shapes.pop() if len(shapes) == 1 else None
