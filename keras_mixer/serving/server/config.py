"""Settings of a server: models, batching and limits. Some can be read from TF Serving's configuration files."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from keras_mixer import wire
from keras_mixer.extras import require
from keras_mixer.fields import check_types
from keras_mixer.images import MAX_PIXELS
from keras_mixer.shapes import integer, positive_integer


@dataclass(frozen=True)
class ModelConfig:
    """One model of a server.

    Args:
        base_path: A folder with numbered version folders, each a SavedModel.
        name: The name in the address, by default the folder's.
        versions: `"latest"` serves the highest version, `"all"` serves every version, a number serves that many of the
            highest versions, and a sequence of numbers serves those versions. `--versions 2` of `keras-mixer serve` is
            the sequence `(2,)`.
        labels: Names for versions, such as `{"stable": 1}`. A version with a label is always served.

    Raises:
        ValueError: If a name, a label or `versions` is invalid.
    """

    base_path: Path
    name: str = ""
    versions: Literal["latest", "all"] | int | Sequence[int] = "latest"
    labels: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self):
        if re.match(r"[a-z][a-z0-9+.-]+:/", str(self.base_path)):
            raise ValueError(f"A model is served from a folder of this machine: copy {self.base_path} here.")
        # "." has a name only as an absolute path.
        path = Path(os.path.abspath(self.base_path))
        object.__setattr__(self, "base_path", path)
        object.__setattr__(self, "name", self.name or path.name)
        if not re.fullmatch(r"[^/:\s]+", self.name):
            raise ValueError(f"A model's name cannot hold '/', ':' or a space, but got {self.name!r}: choose another.")
        count = integer(self.versions)
        if count is not None:
            object.__setattr__(self, "versions", positive_integer("versions", count))
        elif self.versions not in ("latest", "all"):
            numbers = tuple(map(integer, self.versions)) if isinstance(self.versions, Iterable) else (None,)
            if any(number is None or number < 0 for number in numbers):
                raise ValueError(f"versions must be 'latest', 'all' or version numbers, but got {self.versions!r}.")
            object.__setattr__(self, "versions", numbers)
        for label in self.labels:
            if not re.fullmatch(r"[a-zA-Z0-9_]+", label):
                raise ValueError(f"A version label is made of letters, digits and '_', but got {label!r}.")


@dataclass(frozen=True)
class Batching:
    """How requests that wait at the same time are batched. The settings are named as in TF Serving.

    Args:
        max_batch_size: The largest number of rows in a batch. Larger requests are split.
        batch_timeout_micros: The longest time that the first request of a batch waits for others, in microseconds.
        allowed_batch_sizes: Rising sizes that end with `max_batch_size`. A batch is padded to the next of them. If
            empty, batches are not padded.
        num_batch_threads: How many batches run in parallel.
        max_enqueued_batches: The server refuses requests as UNAVAILABLE while this many full batches wait.

    Raises:
        ValueError: If a value is out of range.
    """

    max_batch_size: int = 32
    batch_timeout_micros: int = 2000
    allowed_batch_sizes: tuple[int, ...] = ()
    num_batch_threads: int = 1
    max_enqueued_batches: int = 100

    def __post_init__(self):
        check_types(self)
        for name in ("max_batch_size", "num_batch_threads", "max_enqueued_batches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, but got {getattr(self, name)}.")
        if self.batch_timeout_micros < 0:
            raise ValueError(f"batch_timeout_micros must be 0 or more, but got {self.batch_timeout_micros}.")
        sizes = self.allowed_batch_sizes
        rising = sizes == tuple(sorted(set(sizes))) and all(size > 0 for size in sizes)
        if sizes and (not rising or sizes[-1] != self.max_batch_size):
            raise ValueError(
                f"allowed_batch_sizes must rise and end with max_batch_size ({self.max_batch_size}), but got {sizes}."
            )

    def padded_size(self, rows: int) -> int:
        """Returns the size that a batch of `rows` rows is padded to."""
        return next((size for size in self.allowed_batch_sizes if size >= rows), rows)


@dataclass(frozen=True)
class Limits:
    """What a request may cost the server.

    Args:
        max_body_bytes: The largest request body. Parsing JSON takes up to about 20 times this memory.
        max_image_pixels: Largest number of pixels (height x width) that an encoded image may declare. All images of a
            request together may declare eight times as many.
        read_timeout: Seconds for a client to send a request's body after its headers.
        idle_timeout: Seconds that a connection may stay open without a complete request header.
        stop_timeout: Seconds for requests in flight to finish when the server stops.
    """

    max_body_bytes: int = wire.MAX_BODY_BYTES
    max_image_pixels: int = MAX_PIXELS
    read_timeout: float = 20.0
    idle_timeout: float = 60.0
    stop_timeout: float = 20.0

    @property
    def max_request_pixels(self) -> int:
        """Largest number of pixels that all encoded images of a request together may declare."""
        return 8 * self.max_image_pixels

    def __post_init__(self):
        check_types(self)
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"{name} must be greater than 0, but got {value}.")


_QUOTED = r"""\"[^\"\n]*\"|'[^'\n]*'"""
_VALUE = rf"(\d+|[Tt]rue|[Ff]alse|{_QUOTED})"
# Settings that change nothing here: this server always splits large requests.
_WITHOUT_EFFECT = ("thread_pool_name", "pad_variable_length_inputs", "enable_large_batch_splitting")


def read_model_config(path: str | os.PathLike) -> list[ModelConfig]:
    """Reads a `models.config`: several models, their version policies and labels.

    If a base path does not exist, such as a container's `/models/digits`, its last parts are tried beside the file:
    `models/digits`, then `digits`.

    Args:
        path: The file, in protobuf's text format (`ModelServerConfig`).

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it is not a model configuration.
        ImportError: If tensorflow-serving-api is not installed.
    """
    file = _existing(path, "model")
    require("tensorflow_serving.config", command=wire.INSTALL_STUBS, purpose="Reading a model configuration")
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    proto = model_server_config_pb2.ModelServerConfig()
    try:
        text_format.Parse(file.read_text(encoding="utf-8"), proto)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not a model configuration: {error}") from None
    return [
        ModelConfig(
            _base_path(config.base_path, file.parent), config.name, _policy(config), dict(config.version_labels)
        )
        for config in proto.model_config_list.config
    ]


def _existing(path: str | os.PathLike, kind: str) -> Path:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no {kind} configuration {path}.")
    return Path(path)


def _policy(config):
    policy = config.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "specific":
        return tuple(policy.specific.versions)
    if choice == "latest" and policy.latest.num_versions > 1:
        return policy.latest.num_versions
    return "all" if choice == "all" else "latest"


def _base_path(written: str, folder: Path) -> Path:
    path = Path(written)
    parts = [part for part in path.parts if part != path.anchor]
    beside = [folder.joinpath(*parts[-length:]) for length in range(len(parts), 0, -1)]
    return next((candidate for candidate in [path, *beside] if candidate.is_dir()), path)


def read_batching_parameters(path: str | os.PathLike) -> Batching:
    """Reads a `batching_parameters.txt`: TF Serving's `BatchingParameters` in protobuf's text format.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it holds an unknown or contradictory setting.
    """
    file = _existing(path, "batching")
    # Published packages lack the proto of this file. Its grammar has only names and plain values.
    text = re.sub(rf"({_QUOTED})|#[^\n]*", r"\1", file.read_text(encoding="utf-8"))
    values: dict[str, int | list[int]] = {}
    limit = None
    setting = rf"(\w+)\s*(?::?\s*\{{\s*value\s*:\s*{_VALUE}\s*\}}|:\s*{_VALUE})\s*,?;?|(\S+)"
    for name, wrapped, plain, other in re.findall(setting, text):
        if other:
            raise ValueError(f"{file} must hold `name {{ value: number }}` settings, but has {other!r}.")
        value = wrapped or plain
        if name in Batching.__dataclass_fields__:
            if not value.isdecimal():
                raise ValueError(f"{file}: {name} must be a whole number, but got {value}.")
            number = int(value)
            values[name] = [*values.get(name, []), number] if name == "allowed_batch_sizes" else number  # type: ignore[misc]
        elif name == "max_execution_batch_size" and value.isdecimal():  # of the parts of a large request
            limit = int(value)
        elif name not in _WITHOUT_EFFECT:
            raise ValueError(
                f"{file} has an unknown setting {name!r}: known are {list(Batching.__dataclass_fields__)}."
            )
    if limit is not None:
        values["max_batch_size"] = min(values.get("max_batch_size", Batching.max_batch_size), limit)
    return Batching(**values)  # type: ignore[arg-type]
