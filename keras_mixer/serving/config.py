"""What to serve and how: models, request batching, and the limits that bad input meets."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class ModelConfig:
    """One model of a server.

    Args:
        base_path: A folder with numbered version folders, each a SavedModel.
        name: The name in the address, by default the folder's.
        versions: `"latest"` serves the highest version, `"all"` every one, numbers exactly those.
        labels: Names for versions, such as `{"stable": 1}`; a version with a name is served whatever `versions` says.

    Raises:
        ValueError: If a name, a label or `versions` cannot be used.
    """

    base_path: Path
    name: str = ""
    versions: Literal["latest", "all"] | Sequence[int] = "latest"
    labels: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self):
        # Where the path is ".", only its absolute form has a name.
        path = Path(os.path.abspath(self.base_path))
        object.__setattr__(self, "base_path", path)
        object.__setattr__(self, "name", self.name or path.name)
        if not re.fullmatch(r"[^/:\s]+", self.name):
            raise ValueError(
                f"A model's name must have no '/', ':' or space, but got {self.name!r}: name it otherwise."
            )
        if self.versions not in ("latest", "all"):
            if isinstance(self.versions, str) or not all(isinstance(v, int) and v >= 0 for v in self.versions):
                raise ValueError(f"versions must be 'latest', 'all' or version numbers, but got {self.versions!r}.")
            object.__setattr__(self, "versions", tuple(self.versions))
        for label in self.labels:
            if not re.fullmatch(r"[a-zA-Z0-9_]+", label):
                raise ValueError(f"A version label is made of letters, digits and '_', but got {label!r}.")


@dataclass(frozen=True)
class Batching:
    """How requests that wait together are run together; the names are TF Serving's.

    Args:
        max_batch_size: The most rows of one run; larger requests are split.
        batch_timeout_micros: How long the first request of a batch waits for company at most, in microseconds.
        allowed_batch_sizes: Batches are padded up to the next of these sizes: rising, the last `max_batch_size`.
            Empty: no padding.
        num_batch_threads: How many batches run at once.
        max_enqueued_batches: When this many full batches wait, further requests are refused as UNAVAILABLE.

    Raises:
        ValueError: If a value is out of range.
    """

    max_batch_size: int = 32
    batch_timeout_micros: int = 2000
    allowed_batch_sizes: tuple[int, ...] = ()
    num_batch_threads: int = 1
    max_enqueued_batches: int = 100

    def __post_init__(self):
        for name in ("max_batch_size", "num_batch_threads", "max_enqueued_batches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, but got {getattr(self, name)}.")
        if self.batch_timeout_micros < 0:
            raise ValueError(f"batch_timeout_micros must be 0 or more, but got {self.batch_timeout_micros}.")
        sizes = tuple(self.allowed_batch_sizes)
        object.__setattr__(self, "allowed_batch_sizes", sizes)
        rising = sizes == tuple(sorted(set(sizes))) and all(size > 0 for size in sizes)
        if sizes and (not rising or sizes[-1] != self.max_batch_size):
            raise ValueError(
                f"allowed_batch_sizes must rise and end with max_batch_size ({self.max_batch_size}), but got {sizes}."
            )

    def padded_size(self, rows: int) -> int:
        """The size that a batch of `rows` rows is padded to."""
        return next((size for size in self.allowed_batch_sizes if size >= rows), rows)


@dataclass(frozen=True)
class Limits:
    """What a request may cost the server.

    Args:
        max_body_bytes: The largest request body. JSON takes up to about 20 times its size while it is read.
        max_image_pixels: The most pixels (height x width) that an encoded image, of a GIF the first frame, may declare;
            the images of one request may declare as many as eight of the largest.
        read_timeout: Seconds for a client to send a request's body, from its headers on.
        idle_timeout: Seconds a connection may stay open without a complete request header.
        stop_timeout: Seconds for requests in flight to finish when the server stops.
    """

    max_body_bytes: int = 32 * 2**20
    max_image_pixels: int = 32 * 10**6
    read_timeout: float = 20.0
    idle_timeout: float = 60.0
    stop_timeout: float = 20.0

    @property
    def max_request_pixels(self) -> int:
        """The most pixels that the encoded images of one request may declare together."""
        return 8 * self.max_image_pixels

    def __post_init__(self):
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"{name} must be greater than 0, but got {value}.")
