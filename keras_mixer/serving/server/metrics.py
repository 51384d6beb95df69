"""Counters for Prometheus. Those that TF Serving also has carry its names."""

from collections.abc import Sequence

from keras_mixer.extras import require

_TF = ":tensorflow:serving"
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_MICROSECONDS = tuple(500 * 2**power for power in range(16))  # half a millisecond to 16 seconds


class Metrics:
    """One server's metrics, in a registry of their own, because several servers may share a process.

    The client library appends `_total` to the request counter's name, which TF Serving does not.
    """

    def __init__(self):
        require("prometheus_client", extra="serve", purpose="The server")
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = CollectorRegistry()

        def metric(kind, name: str, help_text: str, labels: Sequence[str] = (), **options):
            return kind(name, help_text, labels, registry=self.registry, **options)

        self._requests = metric(
            Counter, f"{_TF}:request_count", "Requests by model and status.", ["model_name", "status"]
        )
        self._latency = metric(
            Histogram,
            f"{_TF}:request_latency",
            "Time of a successful request in the server, in microseconds.",
            ["model_name", "API", "entrypoint"],
            buckets=_MICROSECONDS,
        )
        self.batches = metric(
            Histogram,
            f"{_TF}:batching_session:processed_batch_size",
            "Rows of the batches that ran, without padding.",
            ["model_name"],
            buckets=_SIZES,
        )
        self._versions = metric(
            Gauge,
            "keras_mixer_serving_version",
            "1 for each version that answers requests.",
            ["model_name", "version"],
        )
        self.in_flight = metric(Gauge, "keras_mixer_serving_in_flight", "Predict requests that are not answered yet.")

    def request(self, model: str, entrypoint: str, status: str, seconds: float) -> None:
        """Records one predict request. `model` is empty if this server lacks it, so that clients cannot add names."""
        self._requests.labels(model, status).inc()
        if status == "OK":
            self._latency.labels(model, "predict", entrypoint).observe(seconds * 1e6)

    def version(self, model: str, version: int, available: bool) -> None:
        """Records that a version begins to answer requests, or stops."""
        if available:
            self._versions.labels(model, str(version)).set(1)
        else:
            self._versions.remove(model, str(version))
