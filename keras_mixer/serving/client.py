"""A client of any TF Serving: images in, labelled predictions out, over REST or gRPC."""

import time
from collections.abc import Sequence
from typing import Literal

import numpy as np

from keras_mixer.serving.client_images import Image, as_list, encoded
from keras_mixer.serving.errors import ServingError

Prediction = list[tuple[str, float]]
_SHORTEST = 0.1  # seconds for the last look at a server that is waited for


class Client:
    """Asks a server that holds the signatures of `keras_mixer.export` (or the same ones made otherwise).

    Args:
        url: The REST address (`http://host:8501`), or the gRPC one (`host:8500`).
        model: The model's name on the server.
        protocol: "rest" needs `requests` alone; "grpc" needs TensorFlow and tensorflow-serving-api.
        version: A version's number; by default the server's highest.
        label: A version's label, such as "stable", in place of a number.
        timeout: Seconds for one request.
        retries: How often a request is tried again, with growing pauses, when the server cannot be reached or says
            that it is unavailable.
        batch_size: The most images of one request; longer lists are sent in several.
        labels: Class names for float inputs, whose signature gives none; by default the class index.

    Raises:
        ValueError: If an argument cannot be used.
        ImportError: If gRPC is asked for and its packages are missing.

    Every method raises `ServingError` when the server answers an error or cannot be reached.

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
            from keras_mixer.serving.client_rest import RestTransport as Transport
        else:
            from keras_mixer.serving.client_grpc import GrpcTransport as Transport  # type: ignore[assignment]
        self._transport = Transport(url, model, version, label, timeout=timeout, retries=retries)
        self._batch_size = batch_size
        self._labels = None if labels is None else list(labels)

    def predict(self, images: Image | Sequence[Image], top: int = 5) -> list[Prediction]:
        """Classifies images.

        Args:
            images: Paths, files' bytes or uint8 arrays `(height, width, channels)`, which the server decodes and
                preprocesses; or float arrays, which must be preprocessed already. One image, a list of them (files
                and uint8 arrays may be mixed), or an array with a batch axis.
            top: How many classes to give of each image, at most as many as the server does.

        Returns:
            One list for each image, of (label, score) pairs, the highest score first.
        """
        if top < 1:
            raise ValueError(f"top must be 1 or more, but got {top}.")
        several = as_list(images)
        if _are_floats(several):
            scores = self._floats(several, "serving_default", "scores")
            order = np.argsort(-scores, axis=-1, kind="stable")[:, :top]
            return [[(self._label(k), float(row[k])) for k in best] for row, best in zip(scores, order, strict=True)]

        def send(files: list) -> list[Prediction]:
            outputs = self._transport.predict("serving_bytes", {"image_bytes": [encoded(file) for file in files]})
            labels, scores = _named(outputs, "labels"), _named(outputs, "scores")
            return [
                [(_text(label), float(score)) for label, score in zip(names[:top], values[:top], strict=True)]
                for names, values in zip(labels, scores, strict=True)
            ]

        return [prediction for chunk in self._chunks(several) for prediction in send(chunk)]

    def features(self, images: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
        """The pre-logits of preprocessed float images, `(batch, channels)` float32."""
        return self._floats(as_list(images), "features", "features")

    def status(self) -> list[dict]:
        """The model's versions: `{"version": 1, "state": "AVAILABLE", "error": ""}`, the server's order."""
        return self._transport.status()

    def metadata(self) -> dict:
        """The signatures of the model, in the form of TF Serving's `/metadata`."""
        return self._transport.metadata()

    def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Returns when a version is available; raises ServingError when none is after `timeout` seconds."""
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
            raise ValueError(f"Float images must be of one shape, but got {sorted(shapes)}: preprocess them alike.")
        batches = (np.stack(chunk).astype(np.float32, copy=False) for chunk in self._chunks(images))
        parts = [_named(self._transport.predict(signature, {"images": batch}), output) for batch in batches]
        return np.concatenate([np.asarray(part, dtype=np.float32) for part in parts])

    def _chunks(self, images: list) -> list[list]:
        return [images[i : i + self._batch_size] for i in range(0, len(images), self._batch_size)]

    def _label(self, index: int) -> str:
        return str(index) if self._labels is None or index >= len(self._labels) else self._labels[index]


def _are_floats(images: list) -> bool:
    floats = [isinstance(image, np.ndarray) and image.dtype.kind == "f" for image in images]
    if any(floats) and not all(floats):
        raise ValueError("Preprocessed float images cannot be mixed with files or uint8 images: send them apart.")
    return bool(floats) and all(floats)


def _named(outputs, name: str):
    """An output by name; a signature's only output has none over REST."""
    if not isinstance(outputs, dict):
        return outputs
    if name not in outputs:
        raise ServingError(f"The server's answer has the outputs {sorted(outputs)}, but not {name!r}.")
    return outputs[name]


def _text(label: str | bytes) -> str:
    return label.decode("utf-8", errors="replace") if isinstance(label, bytes) else str(label)
