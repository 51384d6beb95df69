"""Counts images that cannot be read, and stops the iteration with a clear error if there are too many."""

import contextlib
import os
import pathlib
import threading
from collections.abc import Iterator, Sequence
from typing import NoReturn

import numpy as np

from keras_mixer.data.sources.base import Source
from keras_mixer.images import MAX_PIXELS, problem
from keras_mixer.listing import plural
from keras_mixer.shapes import bounded_integer, positive_integer


def _problem_of(path: str, max_pixels: int) -> str | None:
    try:
        return problem(pathlib.Path(path).read_bytes(), max_pixels)
    except OSError as error:  # such as a file without permission to read it
        return str(error.strerror)


class CorruptImagesError(ValueError):
    """More images than allowed could not be read."""


class CorruptImages:
    """Counts the unreadable images while batches are made, each image once.

    Args:
        limit: Number of different images that may be unreadable.
        max_pixels: Largest number of pixels (height x width) of an image. Larger images count as unreadable.

    Attributes:
        found: The places of the unreadable images, in the order in which they were found.
        reason: Why the first of them cannot be read, if that is known.

    Example:
        >>> corrupt = CorruptImages(limit=10)
        >>> batches = keras_mixer.data.evaluation_batches(source, preprocessing, 64, corrupt=corrupt)
        >>> with corrupt.explained():
        ...     model.evaluate(batches)
        >>> print(f"{corrupt.count} images could not be read")
    """

    def __init__(self, limit: int = 0, max_pixels: int = MAX_PIXELS):
        self.limit = bounded_integer("limit", limit)
        self.max_pixels = positive_integer("max_pixels", max_pixels)
        self.reason: str | None = None  # why the first one cannot be read
        self._found: dict[str, None] = {}  # a set in the order of finding
        self._lock = threading.Lock()
        self._stopped_by: str | None = None

    @property
    def found(self) -> list[str]:
        return list(self._found)

    @property
    def count(self) -> int:
        """Number of different unreadable images so far."""
        return len(self._found)

    def message(self) -> str:
        """Returns one line that says how many images could not be read and names the first three."""
        return self._line(f", and {self.limit} may be") + " Repair or remove them, or allow more."

    def left_out(self) -> str:
        """Returns one line that says how many images were left out and names the first three."""
        return self._line(f" and {'were' if self.count > 1 else 'was'} left out")

    def _line(self, consequence: str) -> str:
        named = ", ".join(self.found[:3]) + (", ..." if self.count > 3 else "")
        reason = "" if self.reason is None else f" About the first: {self.reason}."
        return f"{plural(self.count, 'image')} could not be read{consequence}: {named}.{reason}"

    def note(self, index: int, source: Source) -> None:
        """Counts example `index` of `source`. Raises CorruptImagesError if this exceeds the limit."""
        location = source.location(int(index))
        with self._lock:  # a pipeline calls this from several threads
            if not self._found and os.path.isfile(location):
                self.reason = _problem_of(location, self.max_pixels)
            self._found[location] = None
        if self.count > self.limit:
            self._stop(self.message())

    def stop_without_any(self, indices: Sequence[int] | np.ndarray, source: Source) -> NoReturn:
        """Raises CorruptImagesError, because no example of a batch can be read."""
        examples = ", ".join(source.location(int(index)) for index in indices[:3])
        more = ", ..." if len(indices) > 3 else "."
        self._stop(
            f"None of the {len(indices)} images of a batch could be read: {examples}{more} Repair or remove them, or "
            f"use larger batches."
        )

    def _stop(self, message: str) -> NoReturn:
        self._stopped_by = message
        raise CorruptImagesError(message)

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Replaces TensorFlow's error by a `CorruptImagesError` if this counter stopped a pipeline."""
        try:
            yield
        except CorruptImagesError:  # of a pipeline without TensorFlow
            raise
        except Exception as error:
            if self._stopped_by is None:
                raise
            import tensorflow as tf

            if not isinstance(error, tf.errors.OpError):
                raise
            raise CorruptImagesError(self._stopped_by) from error

    def count_unreadable(self, batch: dict, source: Source, *, some: bool = False) -> dict:
        """Counts the examples of a batch whose `readable` is false, and returns the batch. For `tf.data.Dataset.map`.

        Args:
            batch: Tensors with a first axis of examples, such as `readable` and `index`.
            source: The source of the examples.
            some: Whether a batch without any readable example stops the iteration.
        """
        import tensorflow as tf

        readable = batch["readable"]

        def note(indices):
            for index in indices:
                self.note(index, source)
            if some and len(indices) == readable.shape[0]:
                self.stop_without_any(indices, source)
            return True

        noted = tf.cond(
            tf.reduce_all(readable),
            lambda: True,
            lambda: tf.ensure_shape(tf.numpy_function(note, [tf.boolean_mask(batch["index"], ~readable)], tf.bool), ()),
        )
        with tf.control_dependencies([noted]):
            return {name: tf.identity(value) for name, value in batch.items()}
