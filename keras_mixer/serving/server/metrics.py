"""Counters for Prometheus. Those that TF Serving has too are named as there."""

from keras_mixer.extras import require

_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_MICROSECONDS = tuple(500 * 2**power for power in range(16))  # half a millisecond to 16 seconds


class Metrics:
    """One server's metrics, in a registry of their own, because several servers may share a process.

    The client library appends `_total` to the request counter's name, which TF Serving does not.
    """

    def __init__(self):
        require("prometheus_client", extra="serve", purpose="The server")
        import prometheus_client

        self._registry = prometheus_client.CollectorRegistry()
        self._requests = prometheus_client.Counter(
            ":tensorflow:serving:request_count",
            "Requests by model and status.",
            ["model_name", "status"],
            registry=self._registry,
        )
        self._latency = prometheus_client.Histogram(
            ":tensorflow:serving:request_latency",
            "Time of a successful request in the server, in microseconds.",
            ["model_name", "API", "entrypoint"],
            buckets=_MICROSECONDS,
            registry=self._registry,
        )
        self._batches = prometheus_client.Histogram(
            ":tensorflow:serving:batching_session:processed_batch_size",
            "Rows of the batches that ran, without padding.",
            ["model_name"],
            buckets=_SIZES,
            registry=self._registry,
        )
        self._versions = prometheus_client.Gauge(
            "keras_mixer_serving_version",
            "1 for each version that answers requests.",
            ["model_name", "version"],
            registry=self._registry,
        )

        self.in_flight = prometheus_client.Gauge(
            "keras_mixer_serving_in_flight", "Predict requests that are not answered yet.", registry=self._registry
        )

    def request(self, model: str, entrypoint: str, status: str, seconds: float) -> None:
        """Records one predict request. `model` is empty if it is not served, so that clients cannot add names."""
        self._requests.labels(model, status).inc()
        if status == "OK":
            self._latency.labels(model, "predict", entrypoint).observe(seconds * 1e6)

    def batch(self, model: str, rows: int) -> None:
        """Records one batch."""
        self._batches.labels(model).observe(rows)

    def version(self, model: str, version: int, available: bool) -> None:
        """Records that a version begins to answer requests, or stops."""
        if available:
            self._versions.labels(model, str(version)).set(1)
        else:
            self._versions.remove(model, str(version))

    def exposition(self) -> bytes:
        """Returns the text that Prometheus reads."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)
