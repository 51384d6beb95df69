"""Random access to the examples of a source, so that a shuffled stream starts anywhere at no cost."""

import dataclasses
import functools
import weakref
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_mixer.data.corrupt import CorruptImages
from keras_mixer.data.pixels import attempt, decode
from keras_mixer.data.sources.base import Source
from keras_mixer.data.sources.folder import FolderSource
from keras_mixer.preprocessing import Preprocessing

# Decoded images are kept in memory up to this size: all of CIFAR takes 184 MB.
MEMORY_LIMIT = 512 * 2**20
_BATCH = 256  # images that are copied there at once
_PROBED = 16  # images of a folder whose sizes are compared before all are decoded


@dataclasses.dataclass(frozen=True)
class RandomAccess:
    """Examples by number."""

    size: int
    encoded: bool  # True: images are encoded bytes and may be unreadable; False: they are decoded uint8
    fetch: Callable[[tf.Tensor], dict[str, tf.Tensor]]  # from an int64 in [0, size) to {"image", "label", "index"}
    read: Callable[[tf.Tensor], tf.Tensor] = tf.identity  # from the image or path of `fetch` to bytes or pixels


# Sources in memory and the numbers of their unreadable images, by source and number of channels. They are kept because
# a training run opens its stream up to three times.
_kept: weakref.WeakKeyDictionary[Source, dict[int, tuple[RandomAccess, list[int]]]] = weakref.WeakKeyDictionary()


def random_access(source: Source, preprocessing: Preprocessing, corrupt: CorruptImages) -> RandomAccess | None:
    """Returns the fastest random access that a source allows; None if it can only be read in order.

    A small source of equally large images is decoded into memory once and stays there as long as the source does.
    Decoding counts the unreadable images and leaves them out. Any other folder of images is read file by file.
    """
    known = _kept.get(source, {}).get(preprocessing.channels)
    if known is not None:
        access, unreadable = known
        for index in unreadable:  # this counter may be another one
            corrupt.note(index, source)
        return access
    shape = source.image_shape
    if shape is None and isinstance(source, FolderSource):
        shape = _common_shape(source, preprocessing)
    if shape is not None and source.num_examples * shape[0] * shape[1] * preprocessing.channels <= MEMORY_LIMIT:
        decoded = _decode_all(source, preprocessing, (*shape[:2], preprocessing.channels), corrupt)
        if decoded is not None:
            _kept.setdefault(source, {})[preprocessing.channels] = decoded
            return decoded[0]
    if isinstance(source, FolderSource):
        paths, labels = tf.constant(source.paths), tf.constant(source.labels)
        return RandomAccess(
            source.num_examples,
            True,
            lambda index: {"image": paths[index], "label": labels[index], "index": index},
            tf.io.read_file,
        )
    return None


def _decode_all(
    source: Source, preprocessing: Preprocessing, shape, corrupt: CorruptImages
) -> tuple[RandomAccess, list[int]] | None:
    """Decodes a whole source; returns None if an image has another shape."""
    decode_image = functools.partial(decode, channels=preprocessing.channels)

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
    except tf.errors.InvalidArgumentError:  # an image is unreadable or has another shape: find out which
        labels.clear()
        indices.clear()
        for example in source.examples():
            try:
                image = decode_image(example["image"])
            except tf.errors.InvalidArgumentError:
                corrupt.note(example["index"], source)
                unreadable.append(int(example["index"]))
                continue
            if image.shape != shape:
                return None
            images[len(labels)] = image
            labels.append(example["label"])
            indices.append(example["index"])
    if not labels:
        raise ValueError(f"No image of {source.spec.name}, split {source.spec.split}, can be read.")
    pixels, classes, origins = tf.constant(images[: len(labels)]), tf.constant(labels), tf.constant(indices)
    access = RandomAccess(
        len(labels), False, lambda index: {"image": pixels[index], "label": classes[index], "index": origins[index]}
    )
    return access, unreadable


def _common_shape(source: FolderSource, preprocessing: Preprocessing):
    """Returns the shape of the first readable images of a folder if they agree, else None."""
    shapes = set()
    for example in source.examples().take(_PROBED):
        try:
            shapes.add(tuple(decode(example["image"], preprocessing.channels).shape))
        except tf.errors.InvalidArgumentError:
            continue  # counted later, when the image is decoded
    return shapes.pop() if len(shapes) == 1 else None
