"""Images that cannot be read: skipped and counted up to a limit, then a clear stop; never silently."""

import contextlib
from collections.abc import Callable, Iterator

import tensorflow as tf

from keras_mixer.data.sources import Source


class CorruptImagesError(ValueError):
    """More images than allowed could not be read."""


class CorruptImages:
    """Counts the unreadable images as batches are made, each image once however often it is met.

    Attributes:
        limit: Number of different images that may be unreadable.
        found: Where they are, in the order they were met.

    Example:
        >>> corrupt = CorruptImages(limit=10)
        >>> batches = keras_mixer.data.evaluation_batches(source, preprocessing, 64, corrupt=corrupt)
        >>> with corrupt.explained():
        ...     model.evaluate(batches)
        >>> print(f"{corrupt.count} images could not be read")
    """

    def __init__(self, limit: int = 0):
        if limit < 0:
            raise ValueError(f"`limit` is a number of images, but got {limit!r}.")
        self.limit = limit
        self.found: list[str] = []
        self._stopped_by: str | None = None

    @property
    def count(self) -> int:
        """Number of different images that could not be read so far."""
        return len(self.found)

    def message(self) -> str:
        """One line that says how many images could not be read, and which, the first three by name."""
        return (
            f"{self._counted} could not be read, and {self.limit} may be: {self._named}. Mend or remove them, or allow "
            f"more."
        )

    def left_out(self) -> str:
        """The same of images that were passed over."""
        return f"{self._counted} could not be read and {'were' if self.count > 1 else 'was'} left out: {self._named}."

    @property
    def _counted(self) -> str:
        return f"{self.count} image{'s' if self.count > 1 else ''}"

    @property
    def _named(self) -> str:
        return ", ".join(self.found[:3]) + (", ..." if self.count > 3 else "")

    def note(self, index: int, source: Source) -> None:
        """Counts example `index` of `source`.

        Raises:
            CorruptImagesError: If it is one more than allowed.
        """
        location = source.location(int(index))
        if location not in self.found:
            self.found.append(location)
        if self.count > self.limit:
            self._stop(self.message())

    def _stop(self, message: str) -> None:
        self._stopped_by = message
        raise CorruptImagesError(message)

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turns TensorFlow's error of a pipeline that this counter stopped into a `CorruptImagesError`."""
        try:
            yield
        except tf.errors.OpError as error:
            if self._stopped_by is not None:
                raise CorruptImagesError(self._stopped_by) from error
            raise

    def count_unreadable(self, batch: dict[str, tf.Tensor], source: Source, *, some: bool = False):
        """Counts the examples of a batch whose `readable` is false; a map function of tf.data.

        Args:
            batch: Tensors with a first axis of examples; among them `readable` and `index`.
            source: Where the examples are from.
            some: Whether at least one example must be readable, or the iteration stops.

        Returns:
            The batch.
        """
        readable = batch["readable"]

        def note(indices):
            for index in indices:
                self.note(index, source)
            if some and len(indices) == readable.shape[0]:
                examples = ", ".join(source.location(int(index)) for index in indices[:3])
                self._stop(
                    f"Not one image of a batch of {len(indices)} could be read: {examples}, ... Mend or remove them, "
                    f"or take larger batches."
                )
            return True

        noted = tf.cond(
            tf.reduce_all(readable),
            lambda: True,
            lambda: tf.ensure_shape(tf.numpy_function(note, [tf.boolean_mask(batch["index"], ~readable)], tf.bool), ()),
        )
        with tf.control_dependencies([noted]):
            return {name: tf.identity(value) for name, value in batch.items()}


def attempt(function: Callable[[tf.Tensor], tf.Tensor], value: tf.Tensor, otherwise: tf.Tensor):
    """`function(value)` if it succeeds, else `otherwise`: a `try` inside a graph.

    Args:
        function: Map function; any error of its operations counts as failure.
        value: Its argument.
        otherwise: Stands in for the result; its shape is the function's, or anything where that is unknown.

    Returns:
        The result, and a bool scalar that says whether `function` succeeded.
    """
    no_autograph = tf.autograph.experimental.do_not_convert
    tried = tf.data.Dataset.from_tensors(value).map(no_autograph(lambda argument: (function(argument), True)))
    failed = tf.data.Dataset.from_tensors((otherwise, False))
    return first_success(tried, failed)


def first_success(tried: tf.data.Dataset, otherwise: tf.data.Dataset):
    """The first element of `tried`, or that of `otherwise` if it fails, which is then run for the first time.

    A `try` costs about 0.1 ms, whatever is tried: many images at once are nearly free.
    """
    # `Dataset.reduce` would say it more shortly, and take a hundred times as long.
    return tried.ignore_errors().concatenate(otherwise).take(1).get_single_element()
