"""A client of any TF Serving: images in, labelled predictions out, over REST or gRPC."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from keras_mixer import wire
from keras_mixer.images import as_png, as_upright_png, image_format, orientation, read_by_graphs
from keras_mixer.serving.errors import ServingError

Image = str | os.PathLike | bytes | np.ndarray
Prediction = list[tuple[str, float]]
_SHORTEST = 0.1  # seconds for the last look at a server that is not ready


class Client:
    """Asks a server that holds a model with the signatures of `keras_mixer.export`.

    Args:
        url: The REST address (`http://host:8501`), or the gRPC address (`host:8500`).
        model: The model's name on the server.
        protocol: "rest" needs only `requests`; "grpc" needs TensorFlow and tensorflow-serving-api.
        version: The number of the version to ask; by default the server's highest.
        label: The label of the version, such as "stable", instead of its number.
        timeout: Seconds for one request.
        retries: How often a request is tried again, with growing pauses, when the server cannot be reached or says
            that it is unavailable.
        batch_size: The largest number of images of one request. Longer lists are sent in several requests.
        upright: Whether to turn photographs upright on this side, as their EXIF orientation says. It is for models that
            version 0.1 exported; later ones turn photographs themselves.
        labels: Class names for float inputs, because their signature gives no names; by default the class index.

    Raises:
        ValueError: If an argument cannot be used.
        ImportError: If gRPC is asked for and its packages are not installed.

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
        timeout: float = 30.0,
        retries: int = 3,
        batch_size: int = 32,
        labels: Sequence[str] | None = None,
        upright: bool = False,
    ):
        if version is not None and label is not None:
            raise ValueError("Give a version or a label, not both.")
        if batch_size < 1 or retries < 0 or not timeout > 0:
            raise ValueError(
                f"batch_size must be 1 or more, retries 0 or more and timeout greater than 0, "
                f"but got {batch_size}, {retries} and {timeout}."
            )
        if protocol not in ("rest", "grpc"):
            raise ValueError(f"protocol must be 'rest' or 'grpc', but got {protocol!r}.")
        if protocol == "rest":
            from keras_mixer.serving.client.rest import RestTransport as Transport
        else:
            from keras_mixer.serving.client.grpc import GrpcTransport as Transport  # type: ignore[assignment]
        self._transport = Transport(url, model, version, label, timeout=timeout, retries=retries)
        self._batch_size = batch_size
        self._upright = upright
        self._labels = None if labels is None else list(labels)

    def predict(self, images: Image | Sequence[Image], top: int = 5) -> list[Prediction]:
        """Classifies images.

        Args:
            images: One image, a list of them, or an array with a batch axis. The server decodes and preprocesses
                paths, files' bytes and uint8 arrays `(height, width, channels)`, which may be mixed. A file of a format
                that exported models do not read, such as HEIC, is sent as an upright PNG. Float arrays must be
                preprocessed already.
            top: How many classes to return for each image, at most as many as the server gives.

        Returns:
            A list of (label, score) pairs for each image, the highest score first.

        Raises:
            ValueError: If an image cannot be sent.
            ImportError: If Pillow is not installed, or pillow-heif for HEIC files.
        """
        if top < 1:
            raise ValueError(f"top must be 1 or more, but got {top}.")
        several = _as_list(images)
        if _are_floats(several):
            scores = self._floats(several, wire.DEFAULT_SIGNATURE, wire.SCORES)
            order = np.argsort(-scores, axis=-1, kind="stable")[:, :top]
            return [[(self._label(k), float(row[k])) for k in best] for row, best in zip(scores, order, strict=True)]

        predictions = []
        for chunk in self._chunks(several):
            inputs = {wire.IMAGE_BYTES: [_encoded(image, self._upright) for image in chunk]}
            outputs = self._transport.predict(wire.BYTES_SIGNATURE, inputs)
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
        return self._transport.status()

    def metadata(self) -> dict:
        """Returns the signatures of the model, in the form of TF Serving's `/metadata`."""
        return self._transport.metadata()

    def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Returns when a version is available, and raises a ServingError if that takes more than `timeout` seconds."""
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
        batches = (np.stack(chunk).astype(np.float32, copy=False) for chunk in self._chunks(images))
        parts = [_named(self._transport.predict(signature, {wire.IMAGES: batch}), output) for batch in batches]
        return np.concatenate([np.asarray(part, dtype=np.float32) for part in parts])

    def _chunks(self, images: list) -> list[list]:
        return [images[i : i + self._batch_size] for i in range(0, len(images), self._batch_size)]

    def _label(self, index: int) -> str:
        return str(index) if self._labels is None or index >= len(self._labels) else self._labels[index]


def _as_list(images: Image | Sequence[Image]) -> list:
    """Returns one image or several as a list. An array with a batch axis gives one image per row."""
    if isinstance(images, (str, os.PathLike, bytes, bytearray)):
        return [images]
    if isinstance(images, np.ndarray):
        if images.ndim not in (3, 4):
            raise ValueError(f"An image array has shape (height, width, channels), but got {images.shape}.")
        return [images] if images.ndim == 3 else list(images)
    return list(images)


def _encoded(image: Image, upright: bool) -> bytes:
    """Returns bytes that an exported model reads: of a file, as they are or as a PNG, or of a uint8 array."""
    if isinstance(image, (bytes, bytearray, str, os.PathLike)):
        data = bytes(image) if isinstance(image, (bytes, bytearray)) else Path(image).read_bytes()
        if image_format(data) is None:
            return data  # the server says what is wrong with it
        try:
            return data if read_by_graphs(data) and not (upright and orientation(data) > 1) else as_upright_png(data)
        except ValueError as error:
            name = "an image" if isinstance(image, (bytes, bytearray)) else os.fspath(image)
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


def _named(outputs, name: str):
    """Returns an output by name. Over REST, a signature's only output comes without its name."""
    if not isinstance(outputs, dict):
        return outputs
    if name not in outputs:
        raise ServingError(f"The server's answer has the outputs {sorted(outputs)}, but not {name!r}.")
    return outputs[name]


def _text(label: str | bytes) -> str:
    return label.decode("utf-8", errors="replace") if isinstance(label, bytes) else str(label)
