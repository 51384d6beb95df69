"""The server for development and tests: models, REST and gRPC, from start to stop."""

import asyncio
import contextlib
import logging
import os
import re
import socket
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path

from keras_mixer import wire
from keras_mixer.extras import require
from keras_mixer.serving.server.config import Batching, Limits, ModelConfig
from keras_mixer.shapes import bounded_integer

_log = logging.getLogger("keras_mixer.serving")
# Where aiohttp tells, with tracebacks, of clients that break off or do not speak HTTP. The server's own faults go to
# `_log`.
_http_log = logging.getLogger("keras_mixer.serving.http")
_http_log.setLevel(logging.CRITICAL)
_BACKLOG = 512


class Server:
    """Answers TF Serving's REST and gRPC for SavedModels, on a thread of its own, until it is stopped.

    It is made for development: it has one process, and neither TLS nor authentication. In production use TF Serving,
    KServe or Ray Serve, which read the same folders.

    Args:
        models: A model's base path (a folder of numbered versions), a `ModelConfig`, or several of either.
        host: The address to listen on. Only this machine can reach the default.
        rest_port: The REST port; 0 takes a free one.
        port: The gRPC port; 0 takes a free one, None serves REST only.
        batching: How waiting requests run together; None runs each by itself.
        limits: What a request may cost.
        poll_seconds: Seconds between two looks for new versions.
        reread: Called at each look. Returns the present settings of the models, such as
            `lambda: read_model_config(file)`, so that versions and labels can change while the server runs.
        cors: The origin whose pages may read the answers of REST, such as "https://example.org", or "*" for all pages.

    Raises:
        ValueError: If a setting is out of range; at the start, if a model cannot be loaded.
        OSError: At the start, if a port is in use, or a folder or its versions do not exist.
        ImportError: At the start, if a package of the extra `serve` is not installed.

    Example:
        >>> with keras_mixer.serving.Server("saved_models/digits", rest_port=0, port=None) as server:
        ...     client = keras_mixer.serving.Client(server.url, model="digits")
        ...     client.predict("seven.png")
    """

    def __init__(
        self,
        models: str | os.PathLike | ModelConfig | Iterable[str | os.PathLike | ModelConfig],
        *,
        host: str = "127.0.0.1",
        rest_port: int = wire.REST_PORT,
        port: int | None = wire.GRPC_PORT,
        batching: Batching | None = Batching(),  # noqa: B008 (frozen)
        limits: Limits = Limits(),  # noqa: B008 (frozen)
        poll_seconds: float = 1.0,
        reread: Callable[[], Iterable[ModelConfig]] = tuple,
        cors: str | None = None,
    ):
        several = [models] if isinstance(models, (str, os.PathLike, ModelConfig)) else list(models)
        self.models = [model if isinstance(model, ModelConfig) else ModelConfig(Path(model)) for model in several]
        if not self.models:
            raise ValueError("There is no model to serve: name at least one base path.")
        if not poll_seconds > 0:
            raise ValueError(f"poll_seconds must be greater than 0, but got {poll_seconds}.")
        for name, number in (("rest_port", rest_port), ("port", 0 if port is None else port)):
            bounded_integer(name, number, 0, 65535)
        self.host, self.rest_port, self.port = host, rest_port, port
        self._batching, self._limits, self._poll_seconds = batching, limits, poll_seconds
        if cors is not None and not re.fullmatch(r"\*|https?://[^/\s]+", cors):
            raise ValueError(f"An origin is * or a scheme and host, such as https://example.org, but got {cors!r}.")
        self._reread, self._cors = reread, cors
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The REST address, as `Client` takes it."""
        return f"http://{self._address}:{self.rest_port}"

    @property
    def grpc_target(self) -> str:
        """The gRPC address, as `Client` takes it with `protocol="grpc"`."""
        if self.port is None:
            raise ValueError("This server does not speak gRPC: give it a port.")
        return f"{self._address}:{self.port}"

    @property
    def _address(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    def start(self) -> "Server":
        """Loads the models and listens. Returns when requests are answered."""
        if self._thread is not None:
            raise RuntimeError("The server runs already: stop it first.")
        require("aiohttp", "orjson", "prometheus_client", extra="serve", purpose="The server")
        require("tensorflow", extra="tensorflow", purpose="The server")
        if self.port is not None:
            require("grpc", "grpc_health", "grpc_reflection", extra="serve", purpose="Serving gRPC")
            command = f"{wire.INSTALL_STUBS}; or serve REST only"
            require("tensorflow_serving", command=command, purpose="Serving gRPC")
        ready: Future[None] = Future()
        thread = threading.Thread(target=lambda: asyncio.run(self._run(ready)), name="keras_mixer_serving", daemon=True)
        thread.start()
        try:
            ready.result()  # raises the error if the server cannot start
        except KeyboardInterrupt:
            self._loop.call_soon_threadsafe(self._stop.set)  # then it stops once the models are loaded
            raise
        self._thread = thread
        return self

    async def _run(self, ready: "Future[None]") -> None:
        from aiohttp import web

        from keras_mixer.serving.server.batching import Batcher
        from keras_mixer.serving.server.grpc import add_services, grpc_server, release
        from keras_mixer.serving.server.manager import ModelManager
        from keras_mixer.serving.server.metrics import Metrics
        from keras_mixer.serving.server.rest import RestHandler
        from keras_mixer.serving.server.service import PredictService

        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        metrics, limits, grpc, health = Metrics(), self._limits, None, None
        sizes = (1, self._batching.max_batch_size) if self._batching else (1,)
        try:
            with contextlib.ExitStack() as undo:
                manager = ModelManager(self.models, metrics, sizes)
                # The ports come first, because loading the models takes long.
                listener = undo.enter_context(_listen(self.host, self.rest_port))
                if self.port is not None:
                    grpc, self.port = grpc_server(self.grpc_target, limits.max_body_bytes)
                    undo.callback(release, grpc)
                self.rest_port = listener.getsockname()[1]
                manager.load()
                batcher = Batcher(self._batching, metrics)
                undo.callback(batcher.close)
                service = PredictService(manager, batcher, metrics, limits)
                if grpc is not None:
                    health = add_services(grpc, service, self._loop)
                    grpc.start()
                rest = RestHandler(service, self._cors)
                http = web.Server(
                    rest,
                    keepalive_timeout=limits.idle_timeout,
                    lingering_time=5.0,
                    handler_cancellation=True,  # what nobody waits for is not computed
                    access_log=None,
                    logger=_http_log,
                )
                sockets = await self._loop.create_server(http, sock=listener, backlog=_BACKLOG)
                undo.pop_all()
        except BaseException as error:
            ready.set_exception(error)
            return
        ready.set_result(None)
        polling = asyncio.create_task(self._poll(manager))
        await self._stop.wait()
        # New connections and calls are refused, those in flight are answered, and then everything closes.
        polling.cancel()
        sockets.close()
        rest.draining = True
        if health is not None:
            health.enter_graceful_shutdown()
        batcher.stop_waiting()
        stopped = None if grpc is None else grpc.stop(limits.stop_timeout)
        http.pre_shutdown()
        await http.shutdown(limits.stop_timeout)
        if stopped is not None:
            await asyncio.to_thread(stopped.wait)
        await asyncio.to_thread(batcher.close)

    async def _poll(self, manager) -> None:
        configs: list[ModelConfig] = []
        fault = ""
        while True:
            await asyncio.sleep(self._poll_seconds)
            try:
                configs, fault = list(await asyncio.to_thread(self._reread)), ""
            except Exception as error:  # the last good settings stay, and the same fault is logged once
                if str(error) != fault:
                    _log.error("The settings of the models cannot be read again: %s", error)
                fault = str(error)
            try:
                await asyncio.to_thread(manager.poll, configs)
            except Exception:  # the loaded versions go on answering
                _log.exception("Looking for new versions failed")

    def stop(self) -> None:
        """Refuses new requests, answers those in flight, and closes. Does nothing if the server is not running."""
        if self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._thread = None

    def __enter__(self) -> "Server":
        return self.start()

    def __exit__(self, *_exception) -> None:
        self.stop()


def _listen(host: str, port: int) -> socket.socket:
    """Returns a socket that listens on an address."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise OSError(f"The host {host!r} is not known: {error.strerror or error}.") from None
    both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()  # `::` then takes IPv4 too
    try:
        return socket.create_server(address, family=family, backlog=_BACKLOG, dualstack_ipv6=both)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error  # the error's own text repeats the address
        raise OSError(f"REST cannot listen on {host}:{port}: {reason}. Choose another port or host.") from None
