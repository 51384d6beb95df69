"""A client for TF Serving and the embedded server, which classifies images over REST or gRPC."""

import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeAlias

import numpy as np

from keras_mixer import wire
from keras_mixer.classes import best_classes, checked_names
from keras_mixer.images import as_png, as_upright_png, image_format, orientation, read_by_graphs
from keras_mixer.images import upright as turned_upright
from keras_mixer.serving.errors import ServingError, UnreachableError, about_image
from keras_mixer.shapes import bounded_integer, positive_integer

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

Image: TypeAlias = "str | os.PathLike | bytes | bytearray | memoryview | BinaryIO | PillowImage | np.ndarray"
Prediction = list[tuple[str, float]]
_BYTES = (bytes, bytearray, memoryview)
_LONGEST = 1e9  # seconds; requests and gRPC fail at much longer timeouts, such as infinity
_SHORTEST = 0.1  # seconds for the last status request to a server that is not ready
_BUSY = (429, "RESOURCE_EXHAUSTED")
_PASSING = (*_BUSY, 502, 503, 504, "UNAVAILABLE")
_BAD = (400, "INVALID_ARGUMENT")
_LARGEST_FLOAT = 10  # the largest value that a published preprocessing produces is 2.7


class Client:
    """Sends images to a server that serves a model with the signatures of `keras_mixer.export`.

    Args:
        url: The REST address (`http://host:8501`, or https), or the gRPC address (`host:8500`, or any target of gRPC).
        model: The model's name on the server.
        protocol: "rest" needs only `requests`; "grpc" needs TensorFlow and tensorflow-serving-api.
        version: The number of the version to use; by default the server's highest.
        label: The label of the version, such as "stable", instead of its number.
        timeout: Seconds for one request; None waits as long as it takes.
        retries: How often a request is repeated, after growing pauses, if the server cannot be reached or says that it
            is unavailable or busy.
        batch_size: The largest number of images in a request. Longer lists are sent in several requests.
        max_request_bytes: The largest size of a request with several images. If the server refuses a request as too
            large, the client sends it again in halves.
        headers: Headers to send with every request, such as `{"Authorization": "Bearer ..."}`. Over gRPC they are sent
            as metadata.
        credentials: For TLS, a file of PEM certificates to trust. Without it, REST over https trusts the usual
            authorities, and gRPC does not use TLS. gRPC also takes a `grpc.ChannelCredentials`.
        upright: Whether the client turns photographs upright by their EXIF orientation. Needed only for models that
            version 0.1 exported; later models turn photographs themselves.
        labels: Class names for float inputs, whose signature does not return names; by default the class index.

    Raises:
        ValueError: If an argument is invalid.
        ImportError: If `protocol` is "grpc" and its packages are not installed.

    Every method raises `ServingError` when the server answers with an error or cannot be reached.

    Example:
        >>> client = keras_mixer.serving.Client("http://127.0.0.1:8501", model="digits")
        >>> client.predict(["seven.png", "three.png"], top=1)
        [[('7', 0.98)], [('3', 0.95)]]
    """

    def __init__(
        self,
        url: str,
        *,
        model: str,
        protocol: Literal["rest", "grpc"] = "rest",
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = 30.0,
        retries: int = 3,
        batch_size: int = 32,
        max_request_bytes: int = wire.MAX_BODY_BYTES,
        headers: Mapping[str, str] | None = None,
        credentials: Any = None,
        labels: Sequence[str] | None = None,
        upright: bool = False,
    ):
        if version is not None and label is not None:
            raise ValueError("Give a version or a label, not both.")
        timeout = _LONGEST if timeout is None else min(timeout, _LONGEST)
        if not timeout > 0:
            raise ValueError(f"`timeout` must be greater than 0, but got {timeout}.")
        if version is not None:
            bounded_integer("version", version)
        if protocol not in ("rest", "grpc"):
            raise ValueError(f"protocol must be 'rest' or 'grpc', but got {protocol!r}.")
        if protocol == "rest":
            from keras_mixer.serving.client.rest import RestTransport as Transport
        else:
            from keras_mixer.serving.client.grpc import GrpcTransport as Transport  # type: ignore[assignment]
        secrets = {"headers": headers or {}, "credentials": credentials}
        self._transport = Transport(url, model, version, label, timeout=timeout, **secrets)
        self._batch_size = positive_integer("batch_size", batch_size)
        self._max_bytes = positive_integer("max_request_bytes", max_request_bytes)
        self._timeout, self._retries = timeout, bounded_integer("retries", retries)
        self._upright = upright
        self._labels = None if labels is None else checked_names(labels, argument="labels")

    def predict(self, images: "Image | Sequence[Image]", top: int = 5) -> list[Prediction]:
        """Classifies images.

        Args:
            images: One image, a list of them, or an array with a batch axis. An image may be a path, the bytes of a
                file, an open binary file, a Pillow image or a uint8 array `(height, width, channels)`. A list may mix
                these, and the server decodes and preprocesses them. A file in a format that exported models cannot
                read, such as HEIC, is sent as an upright PNG. Float arrays must already be preprocessed. Tensors of
                TensorFlow, JAX and PyTorch count as arrays.
            top: Number of classes to return for each image, at most as many as the server returns.

        Returns:
            A list of (label, score) pairs for each image, the highest score first.

        Raises:
            ValueError: If an image cannot be sent, `top` is not a positive integer, or the client has another number of
                `labels` than the model has classes.
            ImportError: If Pillow is not installed, or pillow-heif for HEIC files.
        """
        top = positive_integer("top", top)
        several = _as_list(images)
        if _are_floats(several):
            scores = self._floats(several, wire.DEFAULT_SIGNATURE, wire.SCORES)
            names = self._names(scores.shape[-1])
            order = best_classes(scores, top)
            return [[(names[k], float(row[k])) for k in best] for row, best in zip(scores, order, strict=True)]

        predictions = []
        encoded = (_encoded(image, self._upright) for image in several)
        for outputs in self._answers(wire.BYTES_SIGNATURE, wire.IMAGE_BYTES, encoded, several):
            labels, scores = _named(outputs, wire.LABELS), _named(outputs, wire.SCORES)
            for names, values in zip(labels, scores, strict=True):
                best = zip(names[:top], values[:top], strict=True)
                predictions.append([(_text(label), float(score)) for label, score in best])
        return predictions

    def features(self, images: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
        """Returns the pre-logits of preprocessed float images, `(batch, channels)` float32."""
        return self._floats(_as_list(images), wire.FEATURES_SIGNATURE, wire.FEATURES)

    def status(self) -> list[dict]:
        """Returns the model's versions in the server's order: `{"version": 1, "state": "AVAILABLE", "error": ""}`."""
        return self._call(self._transport.status)

    def metadata(self) -> dict:
        """Returns the signatures of the model, in the form of TF Serving's `/metadata`."""
        return self._call(self._transport.metadata)

    def wait_until_ready(self, timeout: float | None = 60.0) -> None:
        """Waits until a version is available. Raises ServingError if that takes more than `timeout` seconds."""
        timeout = _LONGEST if timeout is None else timeout
        end = time.monotonic() + timeout
        while True:
            try:
                left = max(end - time.monotonic(), _SHORTEST)
                states = [row["state"] for row in self._transport.status(left)]
                if "AVAILABLE" in states:
                    return
                error = ServingError(f"No version is available after {timeout:g} s: {states}")
            except ServingError as failure:
                error = failure
            if time.monotonic() > end:
                raise error
            time.sleep(0.2)

    def close(self) -> None:
        """Closes the connections."""
        self._transport.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_exception) -> None:
        self.close()

    def _floats(self, images: list, signature: str, output: str) -> np.ndarray:
        if not images or not _are_floats(images):
            raise ValueError("Expected one or more preprocessed float images (height, width, channels).")
        shapes = {image.shape for image in images}
        if len(shapes) != 1:
            raise ValueError(
                f"Float images must have one shape, but got {sorted(shapes)}: preprocess all of them to one size."
            )
        if max(np.abs(image).max(initial=0) for image in images) > _LARGEST_FLOAT:
            warnings.warn(
                "Float images are taken as preprocessed, usually to values from -1 to 1, but these have values beyond "
                f"{_LARGEST_FLOAT}: send uint8 arrays, which the server preprocesses.",
                stacklevel=3,
            )
        floats = (np.asarray(image, np.float32) for image in images)
        parts = [_named(answer, output) for answer in self._answers(signature, wire.IMAGES, floats, images)]
        return np.concatenate([np.asarray(part, dtype=np.float32) for part in parts])

    def _answers(self, signature: str, name: str, values: Iterable, images: Sequence) -> Iterator:
        """Sends values in as few requests as the limits allow, and yields the outputs of each request."""
        batch: list = []
        first = size = 0
        for value in values:
            bytes_more = self._transport.size(value)
            if batch and (len(batch) == self._batch_size or size + bytes_more > self._max_bytes):
                yield from self._ask(signature, name, batch, images, first)
                first, batch, size = first + len(batch), [], 0
            batch.append(value)
            size += bytes_more
        if batch:
            yield from self._ask(signature, name, batch, images, first)

    def _ask(self, signature: str, name: str, batch: list, images: Sequence, first: int) -> Iterator:
        """Yields the outputs of a batch. If the server refuses its size or an image, sends the batch in halves."""
        value = np.stack(batch) if isinstance(batch[0], np.ndarray) else batch
        try:
            outputs = self._call(self._transport.predict, signature, {name: value})
        except ServingError as error:
            too_large, bad = _is_about_size(error), name == wire.IMAGE_BYTES and _is_about_image(error)
            if (too_large or bad) and len(batch) > 1:
                half = len(batch) // 2
                yield from self._ask(signature, name, batch[:half], images, first)
                yield from self._ask(signature, name, batch[half:], images, first + half)
                return
            if bad or error.message.startswith("Image "):
                path = f" ({os.fspath(images[first])})" if isinstance(images[first], (str, os.PathLike)) else ""
                raise ServingError(about_image(f"Image {first}{path}", error.message), error.code) from None
            raise
        yield outputs

    def _call(self, function: Callable, *arguments):
        """Calls the server, and again after growing pauses if it is busy, unavailable or cannot be reached."""
        left, pause = self._retries, 0.2
        while True:
            try:
                return function(*arguments)
            except ServingError as error:
                passing = error.code in _PASSING or isinstance(error, UnreachableError)
                if not passing or _is_about_size(error) or not left:
                    raise
                time.sleep(min(error.retry_after or pause, self._timeout))
            left, pause = left - 1, 2 * pause

    def _names(self, classes: int) -> Sequence[str]:
        return (
            list(map(str, range(classes))) if self._labels is None else checked_names(self._labels, classes, "labels")
        )


def _as_list(images) -> list:
    """Returns one image or several as a list. An array with a batch axis gives one image per row."""
    images = _in_numpy(images)
    if _is_file(images) or _is_of_pillow(images):
        return [images]
    if isinstance(images, np.ndarray):
        if images.ndim not in (3, 4):
            raise ValueError(f"An image array has shape (height, width, channels), but got {images.shape}.")
        return [images] if images.ndim == 3 else list(images)
    return [_in_numpy(image) for image in images]


def _in_numpy(images):
    """Returns a tensor of a framework as a NumPy array, and anything else as it is."""
    return np.asarray(images) if getattr(images, "ndim", 0) > 1 and not _is_file(images) else images


def _is_file(image) -> bool:
    """Returns whether an image is a path, the bytes of a file or an open file."""
    return isinstance(image, (str, os.PathLike, *_BYTES)) or hasattr(image, "read")


def _is_of_pillow(image) -> bool:
    return "PIL.Image" in sys.modules and isinstance(image, sys.modules["PIL.Image"].Image)


def _read(image) -> bytes:
    """Returns the bytes of the file at a path, of an open binary file from its beginning, or of a bytes-like object."""
    if isinstance(image, (str, os.PathLike)):
        return Path(image).read_bytes()
    if isinstance(image, _BYTES):
        return bytes(image)
    if image.seekable():
        image.seek(0)
    data = image.read()
    if not isinstance(data, bytes):
        raise ValueError(f"Reading an image's file must give bytes, but gave {type(data).__name__}: open it with 'rb'.")
    return data


def _encoded(image: Image, upright: bool) -> bytes:
    """Returns an image as the bytes of a file that exported models read. Other formats and arrays become PNG."""
    if _is_of_pillow(image):
        return as_png(np.asarray(turned_upright(image, "RGB")))
    if _is_file(image):
        data = _read(image)
        if image_format(data) is None:
            return data  # the server says what is wrong with it
        try:
            return data if read_by_graphs(data) and not (upright and orientation(data) > 1) else as_upright_png(data)
        except ValueError as error:
            name = os.fspath(image) if isinstance(image, (str, os.PathLike)) else "an image"
            raise ValueError(f"{name} cannot be sent: {error}.") from None
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] not in (1, 3) or 0 in array.shape:
        raise ValueError(
            f"An image array must be uint8 (height, width, 1 or 3), but got {array.dtype} {array.shape}: "
            "preprocess all images to float arrays, or convert this one to uint8."
        )
    return as_png(array)


def _are_floats(images: list) -> bool:
    floats = [isinstance(image, np.ndarray) and image.dtype.kind == "f" for image in images]
    if any(floats) and not all(floats):
        raise ValueError("Preprocessed float images cannot be mixed with files or uint8 images: send them separately.")
    return bool(floats) and all(floats)


def _is_about_size(error: ServingError) -> bool:
    """Returns whether a server refused a request because it, or its images, are too large."""
    said = re.search(r"pixels|larger than|too large|OOM", error.message)
    return error.code == 413 or (error.code in _BUSY and said is not None)


def _is_about_image(error: ServingError) -> bool:
    """Returns whether a server could not read an image. TensorFlow's decoders name the format, but not the image."""
    return error.code in _BAD and re.search(r"\b(JPEG|PNG|GIF|BMP|WebP|[Ii]mage)\b", error.message) is not None


def _named(outputs, name: str):
    """Returns an output by name. Over REST, a single output comes without its name."""
    if not isinstance(outputs, dict):
        return outputs
    if name not in outputs:
        raise ServingError(f"The server's answer has the outputs {sorted(outputs)}, but not {name!r}.")
    return outputs[name]


def _text(label: str | bytes) -> str:
    return label.decode("utf-8", errors="replace") if isinstance(label, bytes) else str(label)
