"""One prediction over either protocol: find the version, read the inputs, check them, and run them."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import numpy as np

from keras_mixer import wire
from keras_mixer.serving.errors import RequestError, about_image, invalid
from keras_mixer.serving.server.batching import Batcher
from keras_mixer.serving.server.config import Limits
from keras_mixer.serving.server.manager import ModelManager
from keras_mixer.serving.server.metrics import Metrics
from keras_mixer.serving.server.servable import Servable, Signature

# A smaller request is parsed on the event loop, because handing it to a thread would take longer.
_INLINE_BYTES = 64 * 1024


class ModelSpec(NamedTuple):
    """The model that a request names. Without a version or a label, its highest version is meant."""

    name: str
    version: int | None = None
    label: str | None = None


def version_number(digits: str) -> int:
    """Returns the number of a version; raises RequestError if it does not fit in 64 bits."""
    if len(digits) > len(str(wire.MAX_VERSION)) or int(digits) > wire.MAX_VERSION:
        raise invalid(f"Failed to convert version: {digits[:40]} to numeric.")
    return int(digits)


def select_outputs(outputs: Mapping[str, np.ndarray], names: Collection[str]) -> dict[str, np.ndarray]:
    """Returns the outputs that a request names, or all outputs if it names none."""
    if unknown := set(names) - set(outputs):
        raise invalid(f"The outputs are {sorted(outputs)}, but the request asks for {sorted(unknown)}.")
    if len(set(names)) != len(names):
        raise invalid(f"The request asks for an output twice: {sorted(names)}.")
    return {name: outputs[name] for name in names or outputs}


class PredictService:
    """The prediction service behind REST and gRPC. It belongs to one event loop."""

    def __init__(self, manager: ModelManager, batcher: Batcher, metrics: Metrics, limits: Limits):
        self.manager, self.metrics, self.limits = manager, metrics, limits
        self._batcher = batcher
        # Large bodies are parsed one at a time, because parsing JSON takes many times its size in memory.
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
        """Answers one request of `size` bytes. `read` takes a signature and returns the request's inputs.

        `signature_name` is a name, the set of the signature's input names, or empty for the default signature.
        `entrypoint` is "REST" or "GRPC". Returns the version that answered, the signature, and its outputs.
        """
        start = time.perf_counter()
        status = "INTERNAL"
        # TF Serving's REST and gRPC answer a missing signature with different statuses.
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
        """Runs checked inputs. If they fail, finds the faulty image, which TensorFlow's decoders do not name."""
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
        """Calls `function`, on a thread if processing `size` bytes would block the event loop for long."""
        if size < _INLINE_BYTES:
            return function(*arguments)
        async with self._reading:
            return await asyncio.to_thread(function, *arguments)
