"""An array that lies in a file: its shape is known before its values are read."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

# Trained values hardly compress: a shape that would unpack to more than this many times its bytes is no honest one.
_MAX_UNPACKING = 64


@dataclasses.dataclass(frozen=True)
class StoredArray:
    """One array of a checkpoint.

    Knowing shape and dtype beforehand lets a loader refuse a file before it reads, and allocates, anything.

    Attributes:
        shape: Its shape.
        dtype: Its dtype's name, as "float32".
        read: Reads the values; raises ValueError or OSError if the file is damaged.
        packed_bytes: Bytes that it takes in the file.
    """

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]
    packed_bytes: int

    def believed(self, name: str) -> "StoredArray":
        """Returns the array if its bytes can hold its shape; to be asked where nothing else bounds the shape.

        Raises:
            ValueError: If not, with the array's name.
        """
        if math.prod(self.shape) * 4 > self.packed_bytes * _MAX_UNPACKING + 4096:
            raise ValueError(
                f"The checkpoint is damaged: {name} of shape {self.shape} takes only {self.packed_bytes} bytes in it."
            )
        return self

    def transposed(self, *axes: int) -> "StoredArray":
        """Returns the array with its axes in this order; an array of another rank comes back as it is."""
        if len(axes) != len(self.shape):
            return self
        shape = tuple(self.shape[axis] for axis in axes)
        return dataclasses.replace(self, shape=shape, read=lambda: self.read().transpose(axes))

    def without_leading_one(self) -> "StoredArray":
        """Returns the array without its leading axis of length 1; another array comes back as it is."""
        if self.shape[:1] != (1,):
            return self
        return dataclasses.replace(self, shape=self.shape[1:], read=lambda: self.read()[0])
