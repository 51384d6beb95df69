"""The training stream whose augmentation runs on the device, inside the compiled step of the JAX backend.

A dataset that fits stays in the memory of the device as uint8, and a batch is nothing but the places of its examples in
the stream. If the dataset is larger, the host reads, crops and resizes the images of each batch. JAX computes the
rest, with the order of the examples, from the seed and the place alone, so that a stream can start at any step.
"""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keras_mixer.augmentation import Augmentation
from keras_mixer.data.arrays import BATCH, EXAMPLE, MEMORY_LIMIT, ORDER, fit, in_order, normalize, reader, resized_box
from keras_mixer.data.augmentation.crop import box_draws, random_box
from keras_mixer.data.augmentation.mixing import draw_jax, mix_jax
from keras_mixer.data.augmentation.steps import augment_jax, crop_key
from keras_mixer.data.corrupt import CorruptImages
from keras_mixer.data.sources.base import Source
from keras_mixer.preprocessing import Preprocessing

MEMORY_SHARE = 0.25  # of the device's memory, which a dataset may take; `MEMORY_LIMIT` of a device that hides its size
ROUNDS = 48  # of the shuffle; each moves half of the examples
_BATCHES_AHEAD = 3


@dataclasses.dataclass(frozen=True)
class DeviceStream:
    """Batches for the compiled step, which calls `finish` on each.

    Attributes:
        images: Number of readable training images.
        in_memory: The dataset as arrays for the device, "image" and "label"; None if the host reads every batch.
        parts: Number of processes that share each batch. Each of them has the whole dataset in its devices' memory.
        part: Index of this process.
    """

    source: Source
    preprocessing: Preprocessing
    augmentation: Augmentation
    batch_size: int
    seed: int
    corrupt: CorruptImages
    in_memory: dict[str, np.ndarray] | None
    parts: int = 1
    part: int = 0

    @property
    def size(self) -> int:
        """Number of examples in an epoch."""
        return self.source.num_examples if self.in_memory is None else len(self.in_memory["label"])

    @property
    def _local(self) -> int:
        """This process's examples of a batch."""
        return self.batch_size // self.parts

    def batches(self, start_step: int) -> Iterator[tuple[dict[str, np.ndarray]]]:
        """Yields this process's part of the endless batches from `start_step` on: `({name: array (part, ...)},)`."""
        numbered = map(self._places, itertools.count(start_step))
        for batch in numbered if self.in_memory is not None else self._read(numbered):
            yield (batch,)

    def finish(self, batch: dict[str, jax.Array], in_memory: dict[str, jax.Array] | None):
        """Makes images, float32 `(batch, height, width, channels)`, and labels `(batch, classes)` inside a step.

        Args:
            batch: What `batches` yields, of all processes together.
            in_memory: `self.in_memory`, on the device.
        """
        if in_memory is not None:
            chosen = jax.vmap(self._index)(batch["epoch"], batch["within"])
            batch = batch | {name: values[chosen] for name, values in in_memory.items()}

        cropped = in_memory is None and self.augmentation.crop == "inception"

        def augmented(image, epoch, within):
            key = self._key(EXAMPLE, epoch, within)
            return augment_jax(image, self.augmentation, self.preprocessing, key, cropped=cropped)

        images = jax.vmap(augmented)(batch["image"], batch["epoch"], batch["within"]).astype("float32")
        labels = jax.nn.one_hot(batch["label"], len(self.source.class_names))
        mixture = draw_jax(
            self.preprocessing.image_size,
            mixup=self.augmentation.mixup,
            cutmix=self.augmentation.cutmix,
            key=self._key(BATCH, batch["step"][0]),
        )
        images, labels = mix_jax(images, labels, mixture)
        return normalize(images, self.preprocessing), labels

    def _key(self, *numbers) -> jax.Array:
        return functools.reduce(jax.random.fold_in, numbers, jax.random.key(self.seed))

    def _index(self, epoch: jax.Array, within: jax.Array) -> jax.Array:
        return shuffled(within, self.size, self._key(ORDER, epoch))

    def _places(self, step: int) -> dict[str, np.ndarray]:
        """Returns where this process's examples of a batch stand in the stream: epoch and place within it."""
        first = step * self.batch_size + self.part * self._local
        places = np.arange(first, first + self._local)
        epochs, within = np.divmod(places, self.size)
        numbers = {"epoch": epochs, "within": within, "step": np.full_like(places, step)}
        return {name: values.astype(np.int32) for name, values in numbers.items()}

    def _read(self, numbered: Iterator[dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
        """Reads, crops and resizes the images of each batch; the next readable one replaces an unreadable one."""
        decode = reader(self.preprocessing, self.corrupt.max_pixels)
        boxed = self.augmentation.crop == "inception"

        @jax.jit
        @jax.vmap
        def draw(epoch, within):
            box = box_draws(crop_key(self._key(EXAMPLE, epoch, within))) if boxed else jnp.zeros(0)
            return self._index(epoch, within), box

        def examples():
            for batch in numbered:
                with _on_the_host():
                    index, draws = map(np.asarray, draw(batch["epoch"], batch["within"]))
                planned.append((batch, index))
                yield from zip(index.tolist(), draws, strict=True)

        def cropped(example):
            index, draws = example
            try:
                image = decode(self.source.read(index))
            except (OSError, ValueError):
                return None
            if not boxed:
                return fitted(image, self.augmentation, self.preprocessing)
            return self._resized(image, random_box(draws, image.shape[0], image.shape[1], self.augmentation))

        planned: list[tuple[dict, np.ndarray]] = []
        images = in_order(cropped, examples(), _BATCHES_AHEAD * self._local)
        while True:
            several = list(itertools.islice(images, self._local))
            batch, index = planned.pop(0)
            chosen = self._readable(several, index)
            labels = self.source.labels[index[chosen]].astype(np.int32)
            yield batch | {"image": np.stack([several[place] for place in chosen]), "label": labels}

    def _resized(self, image: np.ndarray, box: np.ndarray) -> np.ndarray:
        top, left, height, width = box.tolist()
        resized = resized_box(
            image,
            ((top, height), (left, width)),
            self.preprocessing.image_size,
            self.preprocessing.interpolation,
            antialias=False,
        )
        return np.clip(np.round(resized), 0, 255).astype(np.uint8)

    def _readable(self, images: list[np.ndarray | None], index: np.ndarray) -> np.ndarray:
        readable = np.array([image is not None for image in images])
        for number in index[~readable]:
            self.corrupt.note(number, self.source)
        if not readable.any():
            self.corrupt.stop_without_any(index, self.source)
        places = np.arange(len(images))
        distances = np.where(readable, (places - places[:, None]) % len(images), len(images))
        return distances.argmin(axis=1)


def shuffled(place: jax.Array, size: int, key: jax.Array) -> jax.Array:
    """Returns where a permutation of `size` numbers puts `place`, without making the permutation.

    The swap-or-not shuffle (Hoang, Morris and Rogaway, 2012): in each round a random reflection pairs the numbers, and
    a random bit of each pair says whether it is swapped.
    """
    pivot_key, bit_key = jax.random.split(key)
    pivots = jax.random.randint(pivot_key, (ROUNDS,), 0, size).astype("uint32")
    masks = jax.random.bits(bit_key, (ROUNDS,), "uint32")

    def swap(number, place):
        partner = (pivots[number] + jnp.uint32(size) - place) % jnp.uint32(size)
        swapped = _mixed(jnp.maximum(place, partner) ^ masks[number]) & 1
        return jnp.where(swapped == 1, partner, place)

    return jax.lax.fori_loop(0, ROUNDS, swap, place.astype("uint32")).astype("int32")


def _mixed(bits: jax.Array) -> jax.Array:
    """Lets every bit of a number depend on all others: the finalizer of MurmurHash3."""
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B)
    bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
    return bits ^ (bits >> 16)


def fitted(image: np.ndarray, augmentation: Augmentation, preprocessing: Preprocessing) -> np.ndarray:
    """Resizes an image to the input size, uint8. The crop "pad" takes all of it, and "none" what evaluation sees."""
    whole = dataclasses.replace(preprocessing, resize="direct") if augmentation.crop == "pad" else preprocessing
    return np.round(fit(image, whole)).astype(np.uint8)


def load_into_memory(source: Source, preprocessing: Preprocessing, augmentation: Augmentation, corrupt: CorruptImages):
    """Reads a dataset into memory, as `DeviceStream.in_memory`; None if it does not fit into that of the device.

    For inception crops the images must be of one size; for the others they are kept in the model's input size.
    """
    limit, cropped = memory_limit(), augmentation.crop == "inception"
    shape = None if cropped else preprocessing.input_shape
    if shape is not None and source.num_examples * np.prod(shape) > limit:
        return None
    images: list[np.ndarray] = []
    kept: list[int] = []
    ready = (
        (lambda image: image)
        if cropped
        else functools.partial(fitted, augmentation=augmentation, preprocessing=preprocessing)
    )
    for index, label, image in _decoded(source, preprocessing, corrupt, ready):
        if image is None:
            corrupt.note(index, source)
            continue
        shape = shape or image.shape
        if image.shape != shape or source.num_examples * image.size > limit:
            return None
        images.append(image)
        kept.append(label)
    if not images:
        raise ValueError(f"No image of {source.spec.name}, split {source.spec.split}, can be read.")
    return {"image": np.stack(images), "label": np.array(kept, np.int32)}


def _decoded(source: Source, preprocessing: Preprocessing, corrupt: CorruptImages, ready: Callable) -> Iterator[tuple]:
    """Yields number, label and prepared pixels of each example; None for the pixels of an unreadable one."""
    if source.in_numpy:
        decode = reader(preprocessing, corrupt.max_pixels)

        def prepared(index):
            try:
                return ready(decode(source.read(index)))
            except (OSError, ValueError):
                return None

        images = in_order(prepared, range(source.num_examples), _BATCHES_AHEAD * 64)
        yield from zip(range(source.num_examples), source.labels.tolist(), images, strict=True)
        return
    from keras_mixer.data.storage import random_access

    access = random_access(source, preprocessing, corrupt)
    if access is None or access.encoded:
        raise ValueError(
            f"execution.pipeline=device keeps a dataset of TFDS in memory, but {source.spec.name} is too large or its "
            f"images differ in size: set execution.pipeline=host."
        )
    columns = {name: column.numpy() for name, column in access.columns.items()}
    for index, label, image in zip(columns["index"], columns["label"], columns["image"], strict=True):
        yield int(index), int(label), ready(image)


def memory_limit() -> int:
    """Returns how many bytes of the device a dataset may take."""
    stats: dict[str, Any] = jax.local_devices()[0].memory_stats() or {}
    return int(MEMORY_SHARE * stats["bytes_limit"]) if "bytes_limit" in stats else MEMORY_LIMIT


def _on_the_host() -> contextlib.AbstractContextManager:
    """Returns the context in which JAX draws for the host, so that it does not wait for a step on the device."""
    try:
        return jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:  # JAX_PLATFORMS leaves the CPU out
        return contextlib.nullcontext()
