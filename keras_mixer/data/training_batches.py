"""The endless stream of training batches: shuffled, augmented, and the same from whichever step it starts."""

import tensorflow as tf

from keras_mixer.data.augmentation import Augmentation
from keras_mixer.data.corrupt import CorruptImages, attempt
from keras_mixer.data.mixing import mix
from keras_mixer.data.preprocessing import Preprocessing
from keras_mixer.data.sources import Source
from keras_mixer.data.storage import RandomAccess, random_access

FOREVER = 2**62
# Encoded images in the shuffle buffer of a source that can only be read in order: about 2 GB of ImageNet.
SHUFFLE_BUFFER = 16_384
# Separate the random numbers of the order, of the examples and of the batches of one seed.
_ORDER, _EXAMPLE, _BATCH = range(3)


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
) -> tf.data.Dataset:
    """Endless augmented batches, every example once per epoch.

    The stream is a function of its arguments alone: batch `k` is the same whether the stream started at step 0 or at
    `k`, which costs nothing for a folder or a source kept in memory. A source that can only be read in order is read,
    but not decoded, from the beginning of the epoch that `start_step` falls into.

    An epoch ends where `source.num_examples` examples have been taken, also in the middle of a batch; every epoch has
    an order of its own.

    Args:
        source: The labelled images.
        preprocessing: What the model expects.
        augmentation: How images vary.
        batch_size: Examples of the global batch, over all shards.
        seed: Decides about order and augmentation.
        start_step: Number of batches that were taken before, for resuming.
        num_shards: Number of hosts that share each batch. Their parts, one after the other, are the batch that one
            host would make (for a source that is read in order: each host reads a part of the source instead).
        shard_index: Which of them this is.
        corrupt: Counts unreadable images. In a batch, the next readable example takes the place of one. Without a
            counter the first unreadable image stops the iteration.

    Returns:
        A dataset of `(images, labels)`: float32 `(batch_size / num_shards, height, width, channels)` and one-hot,
        possibly mixed, float32 `(batch_size / num_shards, classes)`, with static shapes.

    Raises:
        ValueError: If a number is out of range, the shards do not divide the batch, or there are no pairs to mix.

    Example:
        >>> source = keras_mixer.data.load("digits", split="train")
        >>> preprocessing = keras_mixer.data.Preprocessing(image_size=(8, 8), channels=1, resize="direct")
        >>> augmentation = keras_mixer.data.Augmentation(crop="pad", crop_padding=1, flip=False, mixup=0.2)
        >>> batches = keras_mixer.data.training_batches(source, preprocessing, augmentation, 64, seed=0)
        >>> model.fit(batches, steps_per_epoch=source.num_examples // 64, epochs=10, shuffle=False)
    """
    for name, value in {"seed": seed, "start_step": start_step}.items():
        if not 0 <= value < 2**31:
            raise ValueError(f"`{name}` is a number from 0 to 2**31 - 1, but got {value!r}.")
    corrupt = CorruptImages() if corrupt is None else corrupt
    local = _local_batch(batch_size, num_shards, shard_index, augmentation)

    @tf.autograph.experimental.do_not_convert
    def position(count):
        """Position of this shard's example number `count` in the global stream."""
        return count // local * batch_size + shard_index * local + count % local

    @tf.autograph.experimental.do_not_convert
    def augment(place, example):
        image, key = example["image"], tf.stack([seed * 3 + _EXAMPLE, place])
        if image.dtype == tf.string:
            # Only what can fail is attempted: RandAugment would take half as long again in there.
            nothing = tf.zeros(preprocessing.input_shape, tf.uint8)
            pixels, readable = attempt(lambda it: augmentation.take_crop(it, preprocessing, key), image, nothing)
        else:
            pixels, readable = augmentation.take_crop(image, preprocessing, key), True
        pixels = augmentation.vary(tf.ensure_shape(pixels, preprocessing.input_shape), key)
        return {**example, "image": pixels, "readable": readable}

    @tf.autograph.experimental.do_not_convert
    def finish(step, batch):
        batch = _replace_unreadable(corrupt.count_unreadable(batch, source))
        labels = tf.one_hot(batch["label"], len(source.class_names))
        images = tf.cast(batch["image"], tf.float32)
        images, labels = mix(
            images,
            labels,
            mixup=augmentation.mixup,
            cutmix=augmentation.cutmix,
            seed=tf.stack([seed * 3 + _BATCH, step]),
        )
        return preprocessing.normalize(images), labels

    places = tf.data.Dataset.range(start_step * local, FOREVER).map(position)
    storage = random_access(source, preprocessing, corrupt)
    if storage is not None:
        fetched = tf.autograph.experimental.do_not_convert(
            lambda place: augment(place, storage.fetch(_shuffled(storage, place, seed)))
        )
        examples = places.map(fetched, num_parallel_calls=tf.data.AUTOTUNE)
    else:
        records = _read_in_order(source.part(num_shards, shard_index), seed, start_step * local)
        examples = tf.data.Dataset.zip(places, records).map(augment, num_parallel_calls=tf.data.AUTOTUNE)
    batches = examples.batch(local, drop_remainder=True)
    steps = tf.data.Dataset.range(start_step, FOREVER)
    return tf.data.Dataset.zip(steps, batches).map(finish, num_parallel_calls=2).prefetch(tf.data.AUTOTUNE)


def _local_batch(batch_size: int, num_shards: int, shard_index: int, augmentation: Augmentation) -> int:
    if batch_size < 1 or num_shards < 1 or batch_size % num_shards or not 0 <= shard_index < num_shards:
        raise ValueError(
            f"A batch of {batch_size} cannot be shared by {num_shards} shards (this is number {shard_index}): the "
            f"shards must divide the batch, and are numbered from 0."
        )
    if (augmentation.mixup or augmentation.cutmix) and batch_size // num_shards % 2:
        raise ValueError(
            f"Mixup and CutMix mix pairs, but each of {num_shards} shards has {batch_size // num_shards} examples of a "
            f"batch of {batch_size}. Take an even number."
        )
    return batch_size // num_shards


def _shuffled(storage: RandomAccess, place: tf.Tensor, seed: int) -> tf.Tensor:
    """The example at a position of the stream: each epoch is a permutation, computed element by element."""
    epoch, within = place // storage.size, place % storage.size
    key = tf.stack([seed * 3 + _ORDER, epoch])
    return tf.random.experimental.index_shuffle(within, key, storage.size - 1)


def _read_in_order(source: Source, seed: int, start: int) -> tf.data.Dataset:
    """Endless epochs of a source that has no random access, from example number `start` of the stream."""
    size = source.num_examples

    @tf.autograph.experimental.do_not_convert
    def epoch(number):
        # The order is to depend on our seed alone, not on the global one, which this function's graph inherited.
        tf.compat.v1.set_random_seed(1)
        shuffled = source.examples().shuffle(min(size, SHUFFLE_BUFFER), seed=(seed * 3 + _ORDER) * 2**20 + number)
        return shuffled.skip(tf.where(number == start // size, tf.constant(start % size, tf.int64), 0))

    return tf.data.Dataset.range(start // size, FOREVER).flat_map(epoch)


def _replace_unreadable(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Puts the next readable example, around the end of the batch if need be, in the place of an unreadable one."""
    readable = batch["readable"]

    def replace():
        some = tf.debugging.Assert(tf.reduce_any(readable), ["No image of a batch could be read."])
        with tf.control_dependencies([some]):
            count = tf.size(readable)
            places = tf.range(count)
            distances = (places - places[:, tf.newaxis]) % count  # from row to column
            nearest = tf.argmin(tf.where(readable, distances, count), axis=1)
        return {name: tf.gather(value, nearest) for name, value in batch.items()}

    chosen = tf.cond(tf.reduce_all(readable), lambda: batch, replace)
    return {name: tf.ensure_shape(value, batch[name].shape) for name, value in chosen.items()}
