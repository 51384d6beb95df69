"""One prediction over either protocol: find the version, read the inputs, check them, and run them."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from keras_mixer import wire
from keras_mixer.serving.errors import RequestError, about_image, invalid
from keras_mixer.serving.server.batching import Batcher
from keras_mixer.serving.server.config import Limits
from keras_mixer.serving.server.manager import ModelManager
from keras_mixer.serving.server.metrics import Metrics
from keras_mixer.serving.server.servable import Servable, Signature

# A request of fewer bytes is read on the event loop, because handing it to a thread would take longer.
_INLINE_BYTES = 64 * 1024


class ModelSpec(NamedTuple):
    """The model that a request names: its highest version, unless a version or a label is given."""

    name: str
    version: int | None = None
    label: str | None = None


class PredictService:
    """The prediction service behind REST and gRPC. It belongs to one event loop."""

    def __init__(self, manager: ModelManager, batcher: Batcher, metrics: Metrics, limits: Limits):
        self.manager, self.metrics, self.limits = manager, metrics, limits
        self._batcher = batcher
        # Large bodies are read one at a time, because reading JSON takes many times its size in memory.
        self._reading = asyncio.Lock()

    async def predict(
        self,
        spec: ModelSpec,
        signature_name: str | frozenset[str],
        read: Callable[[Signature], Mapping[str, np.ndarray]],
        *,
        size: int,
        entrypoint: str,
    ) -> tuple[int, Signature, dict[str, np.ndarray]]:
        """Answers one request of `size` bytes, whose inputs `read` returns for a signature.

        `signature_name` may also be the names of the signature's inputs, and an empty name stands for the default
        signature. `entrypoint` is "REST" or "GRPC". Returns the
        version that answered, the signature, and its outputs.
        """
        start = time.perf_counter()
        status = "INTERNAL"
        # TF Serving's protocols give different statuses for a missing signature.
        missing = "INVALID_ARGUMENT" if entrypoint == "REST" else "FAILED_PRECONDITION"

        def checked(signature: Signature) -> Mapping[str, np.ndarray]:
            inputs = read(signature)
            signature.check(inputs, self.limits)
            return inputs

        try:
            with self.metrics.in_flight.track_inprogress(), self.manager.use(*spec) as servable:
                signature = servable.signature(signature_name, missing=missing)
                inputs = await self.offload(size, checked, signature)
                outputs = await self._run(servable, signature, inputs)
            status = "OK"
            return servable.version, signature, outputs
        except RequestError as error:
            status = error.code
            raise
        finally:
            known = spec.name if spec.name in self.manager.models else ""
            self.metrics.request(known, entrypoint, status, time.perf_counter() - start)

    async def _run(self, servable: Servable, signature: Signature, inputs: Mapping[str, np.ndarray]) -> dict:
        """Runs checked inputs. If they fail, finds the image at fault, which TensorFlow's decoders do not name."""
        try:
            return await self._batcher.run(servable, signature, inputs)
        except RequestError as error:
            images = inputs.get(wire.IMAGE_BYTES)
            if error.code != "INVALID_ARGUMENT" or images is None or images.ndim != 1 or len(inputs) > 1:
                raise
            for number in range(len(images)):
                try:
                    await self._batcher.run(servable, signature, {wire.IMAGE_BYTES: images[number : number + 1]})
                except RequestError as one:
                    if one.code != error.code:
                        raise
                    raise invalid(about_image(f"Image {number} of the request", one.message)) from None
            raise

    async def offload(self, size: int, function: Callable, *arguments):
        """Calls `function`, on a thread if reading `size` bytes would hold up the event loop."""
        if size < _INLINE_BYTES:
            return function(*arguments)
        async with self._reading:
            return await asyncio.to_thread(function, *arguments)
