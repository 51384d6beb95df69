"""The endless stream of training batches: shuffled, augmented, and the same from whichever step it starts."""

from collections.abc import Callable

import tensorflow as tf

from keras_mixer.data import pixels
from keras_mixer.data.augmentation import Augmentation
from keras_mixer.data.corrupt import CorruptImages, attempt, first_success
from keras_mixer.data.mixing import draw, mix
from keras_mixer.data.order import BATCH, EXAMPLE, FOREVER, key, read_in_order, with_examples
from keras_mixer.data.sources import Source
from keras_mixer.data.storage import random_access
from keras_mixer.preprocessing import Preprocessing

# Images that are decoded in one attempt, and one by one where one of them cannot be read.
AT_ONCE = 16

_unconverted = tf.autograph.experimental.do_not_convert


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
        corrupt: Counts unreadable images. In a batch, the next readable example takes the place of one; so a shard's
            batch of which none is readable, such as an unreadable one of 1, stops the iteration whatever the limit.
            Without a counter the first unreadable image does.

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

    @_unconverted
    def position(count):
        """Position of this shard's example number `count` in the global stream."""
        return count // local * batch_size + shard_index * local + count % local

    @_unconverted
    def augment(place, image):
        image = image if storage is None else storage.read(image)  # a file may be gone: part of what is attempted
        return augmentation.augment(image, preprocessing, key(seed, EXAMPLE, place))

    # Compiled, the pixels pass through memory once instead of once per operation.
    @tf.function(autograph=False, jit_compile=tf.test.is_built_with_xla())
    def mix_and_scale(images, labels, mixture):
        images, labels = mix(tf.cast(images, tf.float32), labels, mixture)
        return pixels.normalize(images, preprocessing), labels

    @_unconverted
    def finish(step, batch):
        batch = _replace_unreadable(corrupt.count_unreadable(batch, counted, some=True))
        labels = tf.one_hot(batch["label"], len(source.class_names))
        mixture = draw(
            preprocessing.image_size,
            mixup=augmentation.mixup,
            cutmix=augmentation.cutmix,
            seed=key(seed, BATCH, step),
        )
        if mixture is None:
            return pixels.normalize(batch["image"], preprocessing), labels  # to the bit what evaluation sees
        return mix_and_scale(batch["image"], labels, mixture)

    places = tf.data.Dataset.range(start_step * local, FOREVER).map(position)
    storage = random_access(source, preprocessing, corrupt)
    counted = source if storage is not None else source.part(num_shards, shard_index)  # what `index` counts in
    if storage is None:
        records = read_in_order(counted, seed, start_step * local)
        numbered, fetch = tf.data.Dataset.zip(places, records), _unconverted(lambda place, record: (place, record))
    else:
        numbered = with_examples(places, storage.size, seed)
        fetch = _unconverted(lambda place, index: (place, storage.fetch(index)))
    augmented = _augmented_pixels if storage is not None and not storage.encoded else _augmented_bytes
    steps = tf.data.Dataset.range(start_step, FOREVER)
    batches = tf.data.Dataset.zip(steps, augmented(numbered, fetch, augment, preprocessing.input_shape, local))
    return batches.map(finish, num_parallel_calls=2).prefetch(tf.data.AUTOTUNE)


def _augmented_pixels(numbered: tf.data.Dataset, fetch: Callable, augment: Callable, shape, batch_size: int):
    """Batches of augmented examples that are decoded already.

    Args:
        numbered: Elements that lead to one example each.
        fetch: From an element to the example's place in the stream, and the example.
        augment: From the place and the image to the pixels, uint8.
        shape: Their shape.
        batch_size: Examples of a batch.

    Returns:
        A dataset of batches `{"image", "label", "index", "readable"}`.
    """

    @_unconverted
    def one(*number):
        place, example = fetch(*number)
        return {**example, "image": tf.ensure_shape(augment(place, example["image"]), shape), "readable": True}

    return numbered.map(one, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size, drop_remainder=True)


def _augmented_bytes(numbered: tf.data.Dataset, fetch: Callable, augment: Callable, shape, batch_size: int):
    """Does the same from encoded images, of which some may be unreadable: what comes in their place is of no use."""
    at_once = max(number for number in range(1, AT_ONCE + 1) if batch_size % number == 0)

    @_unconverted
    def sure(place, example):
        return {**example, "image": tf.ensure_shape(augment(place, example["image"]), shape), "readable": True}

    @_unconverted
    def careful(place, example):
        nothing = tf.zeros(shape, tf.uint8)
        pixels, readable = attempt(lambda image: augment(place, image), example["image"], nothing)
        return {**example, "image": tf.ensure_shape(pixels, shape), "readable": readable}

    @_unconverted
    def several(*numbers):
        examples = tf.data.Dataset.from_tensor_slices(numbers).map(fetch)
        tried, retried = (examples.map(one).batch(at_once, drop_remainder=True) for one in (sure, careful))
        return first_success(tried, retried)

    @_unconverted
    def joined(parts):
        return {name: tf.reshape(value, (batch_size, *value.shape[2:])) for name, value in parts.items()}

    parts = numbered.batch(at_once, drop_remainder=True).map(several, num_parallel_calls=tf.data.AUTOTUNE)
    return parts.batch(batch_size // at_once, drop_remainder=True).map(joined)


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


def _replace_unreadable(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Puts the next readable example, around the end of the batch if need be, in the place of an unreadable one."""
    readable = batch["readable"]

    def replace():
        count = tf.size(readable)
        places = tf.range(count)
        distances = (places - places[:, tf.newaxis]) % count  # from row to column
        nearest = tf.argmin(tf.where(readable, distances, count), axis=1)
        return {name: tf.gather(value, nearest) for name, value in batch.items()}

    chosen = tf.cond(tf.reduce_all(readable), lambda: batch, replace)
    return {name: tf.ensure_shape(value, batch[name].shape) for name, value in chosen.items()}
