"""From shards of encoded images to predictions, read ahead, decoded in parallel and batched."""

import collections
import concurrent.futures
import dataclasses
import io
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from keras_mixer.data import ModelCard
from keras_mixer.data.image_files import MAX_PIXELS
from keras_mixer.data.pixels import attempt, first_frame
from keras_mixer.evaluation import Predictor
from keras_mixer.prediction.shards import Shard

_READERS = 16  # files that are read at a time: a file in a cloud takes tens of milliseconds to answer


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What the classifier says of one image.

    Attributes:
        path: Name of the image.
        classes: Indices of the most likely classes, best first; empty if there is an error.
        labels: Their names.
        scores: Their scores.
        error: Why the image has none; None if it has.
    """

    path: str
    classes: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    error: str | None = None


def classify(
    predictor: Predictor, card: ModelCard, shards: Sequence[Shard], *, top: int = 5, batch_size: int = 32
) -> Iterator[Prediction]:
    """Classifies images, in the order of the shards.

    Args:
        predictor: The classifier.
        card: Its class names and preprocessing.
        shards: The images.
        top: Classes per image; fewer if the classifier has fewer.
        batch_size: Images per call of the classifier, all of one size; the last call is filled up.

    Yields:
        One prediction per image; an image that cannot be read or decoded, or whose scores are not finite, gets an
        error.

    Raises:
        OSError: If a parquet file cannot be read any more.
        ValueError: If it is damaged.
    """
    names = itertools.chain.from_iterable(shard.names for shard in shards)
    batch_size = min(batch_size, sum(len(shard.names) for shard in shards))
    for images, readable, sizes, errors in _batches(card, shards, batch_size):
        classes, scores = _best(predictor, images, readable, batch_size, min(top, len(card.class_names)))
        for index in range(len(images)):
            name = next(names)
            if errors[index]:
                yield Prediction(name, error=errors[index].decode())
            elif not readable[index]:
                yield Prediction(
                    name, error=f"{name} is not a readable JPEG, PNG or GIF image ({sizes[index]:,} bytes)."
                )
            elif not np.isfinite(scores[index]).all():
                yield Prediction(name, error=f"The model's scores of {name} are not finite.")
            else:
                best = tuple(int(place) for place in classes[index])
                labels = tuple(card.class_names[place] for place in best)
                yield Prediction(name, best, labels, tuple(float(score) for score in scores[index]))


def _best(predictor: Predictor, images: np.ndarray, readable: np.ndarray, batch_size: int, top: int):
    """Indices and scores `(n, top)` of the best classes, the lower index first where scores are equal."""
    if not readable.any():
        return np.zeros((len(images), top), np.int32), np.zeros((len(images), top), np.float32)
    # A batch of another size would be compiled anew.
    filled = np.concatenate([images, np.zeros((batch_size - len(images), *images.shape[1:]), np.float32)])
    scores, classes = tf.math.top_k(predictor.scores(filled)[: len(images)], top)
    return classes.numpy(), scores.numpy()


def _batches(card: ModelCard, shards: Sequence[Shard], batch_size: int):
    """Batches of inputs, whether each could be decoded, its size in bytes, and the error where it could not be read."""
    no_image = tf.zeros(card.preprocessing.input_shape)
    failures: list[Exception] = []

    def examples():
        try:
            yield from _read_ahead(shards, window=2 * batch_size)
        except Exception as error:  # TensorFlow would hand on its text alone
            failures.append(error)
            raise

    def prepare(encoded, error):
        image, readable = attempt(card.preprocessing, encoded, no_image)
        return tf.ensure_shape(image, no_image.shape), readable, tf.strings.length(encoded), error

    signature = (tf.TensorSpec((), tf.string), tf.TensorSpec((), tf.string))
    dataset = tf.data.Dataset.from_generator(examples, output_signature=signature)
    dataset = dataset.map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    try:
        yield from dataset.batch(batch_size).prefetch(2).as_numpy_iterator()
    except tf.errors.OpError:
        if failures:
            raise failures[0] from None
        raise


def _read_ahead(shards: Sequence[Shard], window: int) -> Iterator[tuple[bytes, str]]:
    """The bytes of each image, or the error, with up to `window` images being read or waiting."""

    def read(name, reading) -> tuple[bytes, str]:
        try:
            return _of_a_sane_size(name, reading()), ""
        except OSError as error:
            return b"", str(error)

    waiting: collections.deque[concurrent.futures.Future] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
        for shard in shards:
            for name, reading in zip(shard.names, shard.readings(), strict=True):
                waiting.append(pool.submit(read, name, reading))
                if len(waiting) >= window:
                    yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _of_a_sane_size(name: str, encoded: bytes) -> bytes:
    """Returns the bytes; of an image whose header promises more than `MAX_PIXELS`, raises OSError.

    A file of a few bytes could otherwise fill the memory and end the process, and the next one that takes its place.
    """
    try:
        width, height = _declared_size(encoded)
    except Exception:  # the decoder says what is wrong with it
        return encoded
    if width * height > MAX_PIXELS:
        raise OSError(f"{name} is too large to be decoded: {width:,} x {height:,} pixels, more than {MAX_PIXELS:,}.")
    return encoded


def _declared_size(encoded: bytes) -> tuple[int, int]:
    """Width and height in the header of what the decoder takes; of a GIF the first frame's, as it reads no other."""
    # The plug-ins are used directly: `Image.open` would warn of large sizes by a limit of its own.
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile

    if encoded.startswith(b"GIF8"):
        frame = first_frame(encoded)
        whole = frame.end <= len(encoded)
        return (int(frame.width), int(frame.height)) if whole else (0, 0)
    reader = PngImageFile if encoded.startswith(b"\x89PNG") else JpegImageFile
    return reader(io.BytesIO(encoded)).size
