"""Metrics for Prometheus. They have TF Serving's names where it has the same metric."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_MICROSECONDS = tuple(500 * 2**power for power in range(16))  # half a millisecond to 16 seconds


class Metrics:
    """The metrics of one server. They are in a separate registry, because several servers may share a process.

    The client library appends `_total` to the name of the request counter; TF Serving does not.
    """

    def __init__(self):
        self.registry = registry = CollectorRegistry()
        tf, ours, model = ":tensorflow:serving", "keras_mixer_serving", ["model_name"]
        text = "Requests by model and status."
        self._requests = Counter(f"{tf}:request_count", text, [*model, "status"], registry=registry)
        text = "Time of a successful request in the server, in microseconds."
        labels = [*model, "API", "entrypoint"]
        self._latency = Histogram(f"{tf}:request_latency", text, labels, registry=registry, buckets=_MICROSECONDS)
        text, name = "Rows of the batches that ran, without padding.", f"{tf}:batching_session:processed_batch_size"
        self.batches = Histogram(name, text, model, registry=registry, buckets=_SIZES)
        text = "1 for each version that answers requests."
        self._versions = Gauge(f"{ours}_version", text, [*model, "version"], registry=registry)
        self.in_flight = Gauge(f"{ours}_in_flight", "Predict requests that are not answered yet.", registry=registry)

    def request(self, model: str, entrypoint: str, status: str, seconds: float) -> None:
        """Records one predict request. `model` is empty for unknown models, so that clients cannot add names."""
        self._requests.labels(model, status).inc()
        if status == "OK":
            self._latency.labels(model, "predict", entrypoint).observe(seconds * 1e6)

    def version(self, model: str, version: int, available: bool) -> None:
        """Records that a version starts or stops answering requests."""
        if available:
            self._versions.labels(model, str(version)).set(1)
        else:
            self._versions.remove(model, str(version))
