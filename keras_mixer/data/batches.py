"""Makes batches from sources: an endless augmented stream for training, and each example once for evaluation."""

import functools
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from keras_mixer.augmentation import Augmentation
from keras_mixer.data.arrays import BATCH, EXAMPLE
from keras_mixer.data.corrupt import CorruptImages, CorruptImagesError
from keras_mixer.data.sources.base import Source
from keras_mixer.extras import require
from keras_mixer.listing import plural
from keras_mixer.preprocessing import Preprocessing
from keras_mixer.shapes import bounded_integer, positive_integer

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

_CHECKED_AT_ONCE = 64  # images decoded together when searching for unreadable ones
_NAMED = 50  # unreadable images listed in a message


def training_batches(
    source: Source,
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    batch_size: int,
    *,
    seed: int,
    start_step: int = 0,
    num_shards: int = 1,
    shard_index: int = 0,
    corrupt: CorruptImages | None = None,
) -> "tf.data.Dataset":
    """Makes endless augmented batches that contain each example once per epoch.

    The arguments alone determine the stream: batch `k` is the same whether the stream starts at step 0 or at `k`.
    For a folder, or a source that fits in memory, starting late costs nothing. Other sources are read, but not decoded,
    from the beginning of the epoch that contains `start_step`.
    Each epoch has its own order. It ends after `source.num_examples` examples, even in the middle of a batch.

    Args:
        source: The labelled images.
        preprocessing: What the model expects.
        augmentation: How images vary.
        batch_size: Examples of the global batch, over all shards.
        seed: Determines order and augmentation.
        start_step: Number of batches that a resumed run has already taken.
        num_shards: Number of hosts that share each batch. Their parts, concatenated, are the batch that a single host
            would make. If the source can only be read in order, each host reads its own part of the examples instead.
        shard_index: Number of this host, from 0.
        corrupt: Counter of images that are unreadable or too large. The next readable example of the batch replaces
            each of them. If a shard's batch has no readable image, the iteration stops. Without a counter, the first
            unreadable image stops it.

    Returns:
        A dataset of `(images, labels)` with static shapes: float32 `(batch_size / num_shards, height, width,
        channels)`, and float32 `(batch_size / num_shards, classes)`, one-hot and possibly mixed.

    Raises:
        ValueError: If a number is not an integer or is out of range, the shards do not divide the batch, or mixing
            finds a shard with an odd number of examples.
        ImportError: If TensorFlow is not installed.

    Example:
        >>> source = keras_mixer.data.load("digits", split="train")
        >>> preprocessing = keras_mixer.data.Preprocessing(image_size=(8, 8), channels=1, resize="direct")
        >>> augmentation = keras_mixer.data.Augmentation(crop="pad", crop_padding=1, flip=False, mixup=0.2)
        >>> batches = keras_mixer.data.training_batches(source, preprocessing, augmentation, 64, seed=0)
        >>> model.fit(batches, steps_per_epoch=source.num_examples // 64, epochs=10, shuffle=False)
    """
    seed = bounded_integer("seed", seed, 0, 2**31 - 1)
    start_step = bounded_integer("start_step", start_step, 0, 2**31 - 1)
    corrupt = CorruptImages() if corrupt is None else corrupt
    local = local_batch(batch_size, num_shards, shard_index, augmentation)
    require("tensorflow", extra="tensorflow", purpose="Making training batches")
    import tensorflow as tf

    from keras_mixer.data import pixels, stream
    from keras_mixer.data.augmentation.mixing import draw, mix
    from keras_mixer.data.storage import random_access

    @stream.unconverted
    def position(count):
        """Returns the position of this shard's example number `count` in the global stream."""
        return count // local * batch_size + shard_index * local + count % local

    @stream.unconverted
    def augment(place, image):
        image = image if storage is None else storage.read(image)  # may fail, because the file may be gone
        return augmentation.augment(image, preprocessing, stream.key(seed, EXAMPLE, place), corrupt.max_pixels)

    # Compiled code makes one pass over the pixels instead of one pass per operation.
    @tf.function(autograph=False, jit_compile=tf.test.is_built_with_xla())
    def mix_and_scale(images, labels, mixture):
        images, labels = mix(tf.cast(images, tf.float32), labels, mixture)
        return pixels.normalize(images, preprocessing), labels

    @stream.unconverted
    def finish(step, batch):
        batch = stream.replace_unreadable(corrupt.count_unreadable(batch, counted, some=True))
        labels = tf.one_hot(batch["label"], len(source.class_names))
        mixture = draw(
            preprocessing.image_size,
            mixup=augmentation.mixup,
            cutmix=augmentation.cutmix,
            seed=stream.key(seed, BATCH, step),
        )
        if mixture is None:
            return pixels.normalize(batch["image"], preprocessing), labels  # the same bits as in evaluation
        return mix_and_scale(batch["image"], labels, mixture)

    places = tf.data.Dataset.range(start_step * local, stream.FOREVER).map(position)
    storage = random_access(source, preprocessing, corrupt)
    counted = source if storage is not None else source.part(num_shards, shard_index)  # `index` counts its examples
    if storage is None:
        records = stream.read_in_order(counted, seed, start_step * local)
        numbered = tf.data.Dataset.zip(places, records)
        fetch = stream.unconverted(lambda place, record: (place, record))
    else:
        numbered = stream.with_examples(places, storage.size, seed)
        fetch = stream.unconverted(lambda place, index: (place, storage.fetch(index)))
    encoded = storage is None or storage.encoded
    examples = stream.augmented(numbered, fetch, augment, preprocessing.input_shape, local, encoded)
    batches = tf.data.Dataset.zip(tf.data.Dataset.range(start_step, stream.FOREVER), examples)
    return batches.map(finish, num_parallel_calls=2).prefetch(tf.data.AUTOTUNE)


def local_batch(batch_size: int, num_shards: int, shard_index: int, augmentation: Augmentation) -> int:
    """Returns the examples of a batch that one shard makes; raises ValueError if the shards cannot share the batch."""
    batch_size, num_shards = positive_integer("batch_size", batch_size), positive_integer("num_shards", num_shards)
    bounded_integer("shard_index", shard_index, 0, num_shards - 1)
    if batch_size % num_shards:
        raise ValueError(f"{num_shards} shards cannot share a batch of {batch_size}: the shards must divide the batch.")
    if (augmentation.mixup or augmentation.cutmix) and batch_size // num_shards % 2:
        raise ValueError(
            f"Mixup and CutMix mix pairs, but each of {num_shards} shards has {batch_size // num_shards} examples of a "
            f"batch of {batch_size}. Take an even number."
        )
    return batch_size // num_shards


def evaluation_batches(
    source: Source,
    preprocessing: Preprocessing,
    batch_size: int,
    *,
    one_hot: bool = False,
    pad: bool = False,
    corrupt: CorruptImages | None = None,
) -> "tf.data.Dataset | keras.utils.PyDataset":
    """Decodes, resizes and batches every example of a source once, in order.

    Args:
        source: The labelled images.
        preprocessing: What the model expects.
        batch_size: Examples per batch.
        one_hot: Whether labels are rows of a one-hot matrix instead of integers.
        pad: Whether to fill up the last batch with weight 0, so that all batches have one static shape.
        corrupt: Counter of images that are unreadable or too large. They get weight 0. Without a counter, the first
            such image stops the iteration.

    Returns:
        A dataset of `(images, labels, weights)`: float32 `(batch, height, width, channels)`; int64 `(batch,)` or
        float32 `(batch, classes)`; float32 `(batch,)`, 1 for an example and 0 to ignore it. They are tensors of a
        `tf.data.Dataset`, or arrays of a `keras.utils.PyDataset` if the source is read without TensorFlow.

    Raises:
        ValueError: If `batch_size` is not a positive integer.

    Example:
        >>> source = keras_mixer.data.load("digits", split="test")
        >>> preprocessing = keras_mixer.data.Preprocessing(image_size=(8, 8), channels=1, resize="direct")
        >>> batches = keras_mixer.data.evaluation_batches(source, preprocessing, batch_size=100)
        >>> [len(labels) for images, labels, weights in batches]
        [100, 100, 100, 60]
    """
    batch_size = positive_integer("batch_size", batch_size)
    corrupt = CorruptImages() if corrupt is None else corrupt
    if source.in_numpy:
        from keras_mixer.data.array_batches import EvaluationBatches

        return EvaluationBatches(source, preprocessing, batch_size, one_hot, pad, corrupt)
    require("tensorflow", extra="tensorflow", purpose="Making evaluation batches")
    import tensorflow as tf

    from keras_mixer.data import stream
    from keras_mixer.data.pixels import attempt_each, preprocess, read

    decode = functools.partial(read, max_pixels=corrupt.max_pixels)

    # AutoGraph is off: no function here needs it, and it would take longer than everything else.
    @stream.unconverted
    def prepare(examples):
        images, readable = attempt_each(
            lambda encoded: preprocess(encoded, preprocessing, decode),
            examples["image"],
            tf.zeros(preprocessing.input_shape),
        )
        return {**examples, "image": images, "readable": readable}

    @stream.unconverted
    def finish(batch):
        batch = corrupt.count_unreadable(batch, source)
        images, labels, weights = batch["image"], batch["label"], tf.cast(batch["readable"], tf.float32)
        if pad:
            missing = batch_size - tf.shape(labels)[0]
            images, labels, weights = (
                tf.ensure_shape(
                    tf.pad(value, [[0, missing]] + [[0, 0]] * (value.shape.rank - 1)), (batch_size, *value.shape[1:])
                )
                for value in (images, labels, weights)
            )
        if one_hot:
            labels = tf.one_hot(labels, len(source.class_names))
        return images, labels, weights

    several = source.examples().batch(min(stream.AT_ONCE, batch_size))
    prepared = several.map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    # Keras asks for the number of batches, which is unknown after `unbatch`.
    count = tf.data.experimental.assert_cardinality(-(-source.num_examples // batch_size))
    batches = prepared.unbatch().batch(batch_size).apply(count)
    return batches.map(finish).prefetch(tf.data.AUTOTUNE)


def naming_all(
    error: CorruptImagesError,
    corrupt: CorruptImages,
    sources: Sequence[Source],
    preprocessing: Preprocessing,
    option: str,
) -> CorruptImagesError:
    """Reads all images of folders and names all unreadable ones, so that a user does not meet them one by one.

    Args:
        error: The error that stopped the iteration. It is returned unchanged unless it says that the limit of `corrupt`
            was exceeded.
        corrupt: The counter that stopped the iteration.
        sources: The sources. Only folders are read.
        preprocessing: What the model expects.
        option: The option that sets how many images may be left out, such as "--corrupt-limit ".

    Returns:
        The error to raise.
    """
    if corrupt.count <= corrupt.limit or any(source.layout is None for source in sources):
        return error
    found = CorruptImages(sys.maxsize, corrupt.max_pixels)
    for source in sources:
        for _ in evaluation_batches(source, preprocessing, _CHECKED_AT_ONCE, corrupt=found):
            pass
    named = ", ".join(found.found[:_NAMED]) + (", ..." if found.count > _NAMED else "")
    reason = "" if found.reason is None else f" About the first: {found.reason}."
    return CorruptImagesError(
        f"{plural(found.count, 'image')} could not be read: {named}.{reason} Repair or remove "
        f"them and run the same command again, or leave them out with {option}{found.count}."
    )
